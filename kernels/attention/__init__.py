"""Contract: multi-head latent attention over cached rows: absorbed (decode), expanded (prompts)."""

from typing import Any

import torch
from torch import Tensor

from kernels.attention import cpu, reference
from kernels.choice import choose
from kernels.errors import KernelInputError


def _absorbed_triton(*inputs: Any) -> Tensor:
    from kernels.attention import gpu  # noqa: PLC0415  Triton is not on every machine

    return gpu.absorbed_attention(*inputs)


def _expanded_triton(*inputs: Any) -> Tensor:
    from kernels.attention import gpu_prompt  # noqa: PLC0415  Triton is not on every machine

    return gpu_prompt.expanded_attention(*inputs)


ABSORBED = {
    "native": cpu.absorbed_attention,
    "reference": reference.absorbed_attention,
    "triton": _absorbed_triton,
}
EXPANDED = {
    "native": cpu.expanded_attention,
    "reference": reference.expanded_attention,
    "triton": _expanded_triton,
}


def absorbed_attention(
    q_latent: Tensor,
    q_rope: Tensor,
    rows: Tensor,
    scale: float,
    start: int,
    *,
    implementation: str | None = None,
) -> Tensor:
    """softmax(scale · (q_latent · c + q_rope · k)) c over cached rows (c, k) that all heads share.

    q_latent  [tokens, heads, latent] float32   queries multiplied by W_UK
    q_rope    [tokens, heads, rope] float32     rotated
    rows      [start + tokens, latent + rope] float32   cache rows, oldest first
    scale     multiplies the scores before the softmax
    start     position of the first query: query i sees rows 0 .. start + i
    implementation   a name of ABSORBED; None: "native" on the CPU, else "reference"
    returns   [tokens, heads, latent] float32, still to be multiplied by W_UV

    "reference" holds two score matrices [heads, tokens, start + tokens] float32 at once; callers
    bound them by cutting queries. Does not wait for the GPU. Error against float64:
    cases.RELATIVE_ERROR.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report, section 2.1.2 and appendix C.
    """
    tokens, heads, latent = _dimensions(q_latent)
    shapes = ((tokens, heads, rows.shape[-1] - latent), (start + tokens, rows.shape[-1]))
    _check((q_latent, q_rope, rows), ((tokens, heads, latent), *shapes), start)
    attend = choose(ABSORBED, implementation, rows.device)
    return attend(q_latent, q_rope, rows, scale, start)


def expanded_attention(
    q: Tensor,
    k_nope: Tensor,
    k_rope: Tensor,
    v: Tensor,
    scale: float,
    start: int,
    *,
    implementation: str | None = None,
) -> Tensor:
    """softmax(scale · (q_nope · k_nope + q_rope · k_rope)) v; all heads share k_rope.

    q        [tokens, heads, nope + rope] float32
    k_nope   [start + tokens, heads, nope] float32
    k_rope   [start + tokens, rope] float32
    v        [start + tokens, heads, value] float32
    scale, start, implementation   as in `absorbed_attention`
    returns  [tokens, heads, value] float32

    Work, error, errors raised and source as in `absorbed_attention`.
    """
    tokens, heads, key = _dimensions(q)
    seen, rope = start + tokens, k_rope.shape[-1]
    shapes = ((seen, heads, key - rope), (seen, rope), (seen, heads, v.shape[-1]))
    _check((q, k_nope, k_rope, v), ((tokens, heads, key), *shapes), start)
    attend = choose(EXPANDED, implementation, q.device)
    return attend(q, k_nope, k_rope, v, scale, start)


def _dimensions(q: Tensor) -> tuple[int, int, int]:
    if q.ndim != 3:
        raise KernelInputError(f"queries must be [tokens, heads, length], not {tuple(q.shape)}")
    tokens, heads, length = q.shape
    return tokens, heads, length


def _check(tensors: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...], start: int) -> None:
    if start < 0:
        raise KernelInputError(f"start must not be negative: {start}")
    for tensor, shape in zip(tensors, shapes, strict=True):
        if tensor.dtype != torch.float32 or tuple(tensor.shape) != shape:
            raise KernelInputError(
                f"expected float32 {shape}, got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if tensor.device != tensors[0].device:
            raise KernelInputError(f"queries on {tensors[0].device}, others on {tensor.device}")
