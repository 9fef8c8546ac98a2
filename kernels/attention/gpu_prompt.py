"""Prompts: causal attention in expanded form, keys in two parts, key and value lengths apart.

A program holds a tile of one head's queries and walks the keys: first the tiles that all its
queries see, without a mask, then those on the diagonal. Tiles of late queries start first: they
are the longest.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.attention.gpu_plan import (
    BULK_ALIGNMENT,
    HOPPER,
    PromptTiles,
    capability_of,
    prompt_tiles,
)
from kernels.errors import KernelInputError


@triton.jit
def expanded_prompt_kernel(
    q,
    k_nope,  # pointer, or with BULK a descriptor of [seen, all heads' columns]; so k_rope and v
    k_rope,
    v,
    out,
    scale,
    tokens,
    start,
    q_token,
    q_head,
    k_row,
    k_head,
    k_rope_row,
    v_row,
    v_head,
    out_token,
    out_head,
    NOPE: tl.constexpr,
    ROPE: tl.constexpr,
    VALUE: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    V: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    BULK: tl.constexpr,
):
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * M
    head = tl.program_id(1)
    query = tl.arange(0, M)[:, None]
    real = first + query < tokens
    d, r, e = tl.arange(0, D)[None, :], tl.arange(0, R)[None, :], tl.arange(0, V)[None, :]
    mine = q + first.to(tl.int64) * q_token + head.to(tl.int64) * q_head + query * q_token
    q_nope = tl.load(mine + d, real & (d < NOPE), 0.0)
    q_rope = tl.load(mine + NOPE + r, real & (r < ROPE), 0.0)
    kind = q_nope.dtype
    to_base_2 = scale * 1.4426950408889634

    largest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    values = tl.zeros([M, V], tl.float32)
    seen = tl.minimum(start + first + M, start + tokens)
    seen_by_all = (start + first + 1) // N * N
    row = tl.arange(0, N)[:, None]
    for masked in tl.static_range(2):
        begin = seen_by_all if masked else 0
        end = seen if masked else seen_by_all
        for at in range(begin, end, N):
            if BULK:
                keys = k_nope.load([at, head * k_head])
                rope = k_rope.load([at, 0])
            else:
                here = at + row < seen
                base = k_nope + tl.cast(at, tl.int64) * k_row + head.to(tl.int64) * k_head
                keys = tl.load(base + row * k_row + d, here & (d < NOPE), 0.0)
                base = k_rope + tl.cast(at, tl.int64) * k_rope_row
                rope = tl.load(base + row * k_rope_row + r, here & (r < ROPE), 0.0)
            score = tl.dot(q_nope, tl.trans(keys), input_precision="ieee")
            score = tl.dot(q_rope, tl.trans(rope), score, input_precision="ieee") * to_base_2
            if masked:
                visible = at + tl.arange(0, N)[None, :] <= start + first + query
                score = tl.where(visible, score, float("-inf"))
            grown = tl.maximum(largest, tl.max(score, 1))
            weight = tl.exp2(score - grown[:, None])
            shrink = tl.exp2(largest - grown)
            total = total * shrink + tl.sum(weight, 1)
            if BULK:
                value = v.load([at, head * v_head])
            else:
                here = at + row < seen
                base = v + tl.cast(at, tl.int64) * v_row + head.to(tl.int64) * v_head
                value = tl.load(base + row * v_row + e, here & (e < VALUE), 0.0)
            values *= shrink[:, None]
            values = tl.dot(weight.to(kind), value, values, input_precision="ieee")
            largest = grown

    place = out + first.to(tl.int64) * out_token + head.to(tl.int64) * out_head
    values = (values / total[:, None]).to(out.dtype.element_ty)
    tl.store(place + query * out_token + e, values, real & (e < VALUE))


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
    return max(16, triton.next_power_of_2(length))  # the shortest length of a tensor core's dot


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
