"""Prompts: causal attention in expanded form, keys in two parts, key and value lengths apart."""

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.attention.gpu_plan import (
    BULK_ALIGNMENT,
    HOPPER,
    PromptTiles,
    capability_of,
    prompt_tiles,
)
from kernels.attention.gpu_prompt_kernel import expanded_prompt_kernel
from kernels.errors import KernelInputError


def expanded_prompt(
    q: Tensor,
    k_nope: Tensor,
    k_rope: Tensor,
    v: Tensor,
    scale: float,
    start: int,
    out: Tensor,
    *,
    tiles: PromptTiles | None = None,
) -> None:
    """out = softmax(scale (q_nope . k_nope + q_rope . k_rope)) v, query i seeing rows 0..start+i.

    q       [tokens, heads, nope + rope] float32, float16 or bfloat16; all tensors of one dtype
    k_nope  [start + tokens, heads, nope]
    k_rope  [start + tokens, rope], shared by all heads
    v       [start + tokens, heads, value]
    out     [tokens, heads, value], written
    tiles   None: those of `prompt_tiles`

    Each may be a view with strides, but for the last dimension. Accumulates in float32; does not
    wait for the GPU. Raises KernelInputError when shapes, dtypes or strides do not fit.
    """
    tokens, heads, width = q.shape
    nope, rope, value = k_nope.shape[-1], k_rope.shape[-1], v.shape[-1]
    seen = start + tokens
    shapes = ((seen, heads, nope), (seen, width - nope), (seen, heads, value))
    _check((k_nope, k_rope, v, out), (*shapes, (tokens, heads, value)), q)
    if not out.numel():
        return
    bulk = capability_of(q.device) == HOPPER and _fits_bulk(k_nope, k_rope, v)
    tiles = tiles or prompt_tiles(capability_of(q.device), q.dtype, bulk)
    sources = (k_nope, k_rope, v)
    if tiles.bulk:
        sources = tuple(_descriptor(each, tiles.keys) for each in sources)
    grid = (triton.cdiv(tokens, tiles.queries), heads)
    expanded_prompt_kernel[grid](
        *(q, *sources, out, scale, tokens, start, q.stride(0), q.stride(1)),
        *(k_nope.stride(0), k_nope.stride(1), k_rope.stride(0), v.stride(0), v.stride(1)),
        *(out.stride(0), out.stride(1)),
        NOPE=nope,
        ROPE=rope,
        VALUE=value,
        D=_padded(nope),
        R=_padded(rope),
        V=_padded(value),
        M=tiles.queries,
        N=tiles.keys,
        BULK=tiles.bulk,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )


def expanded_attention(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor, scale: float, start: int
) -> Tensor:
    """See `kernels.attention.expanded_attention`."""
    out = torch.empty(*q.shape[:2], v.shape[-1], device=q.device)
    q, k_nope, k_rope, v = (
        each if each.stride(-1) == 1 else each.contiguous() for each in (q, k_nope, k_rope, v)
    )
    expanded_prompt(q, k_nope, k_rope, v, scale, start, out)
    return out


def _descriptor(x: Tensor, rows: int) -> TensorDescriptor:
    """Rows of x [seen, heads, length] or [seen, length] with the columns of all heads in a line."""
    length = x.shape[-1]
    columns = length if x.ndim == 2 else (x.shape[1] - 1) * x.stride(1) + length
    return TensorDescriptor(x, [len(x), columns], [x.stride(0), 1], [rows, length])


def _fits_bulk(*sources: Tensor) -> bool:
    return all(
        x.itemsize == 2
        and x.stride(0) * 2 % BULK_ALIGNMENT == 0
        and x.data_ptr() % BULK_ALIGNMENT == 0
        and x.shape[-1] == _padded(x.shape[-1])
        for x in sources
    )


def _padded(length: int) -> int:
    """At least 16, the shortest length of a tensor core's product."""
    return max(16, int(triton.next_power_of_2(length)))


def _check(tensors: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...], q: Tensor) -> None:
    for tensor, shape in zip(tensors, shapes, strict=True):
        if tuple(tensor.shape) != shape:
            raise KernelInputError(f"expected {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise KernelInputError(
                f"expected {q.dtype} on {q.device}, got {tensor.dtype} on {tensor.device}"
            )
    if any(tensor.stride(-1) != 1 for tensor in (q, *tensors)):
        raise KernelInputError("values of a head must lie side by side")
