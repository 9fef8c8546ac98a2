"""What the interpreting process runs for test_attention_gpu.py; arguments and results are pickled.

Imported there with Triton interpreting, so it must not be imported by a test's own process.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.attention import gpu, gpu_prompt
from kernels.attention.gpu_plan import PromptTiles, Splits, Tiles, partial_type

NARROW = Tiles(heads=16, rows=16, stages=1, warps=4)


@dataclass(frozen=True)
class Step:
    """Inputs of one decode step; as `gpu.absorbed_split` takes them, `latent` of q's columns."""

    q: Tensor
    cache: Tensor
    seen: Tensor
    scale: float
    latent: int
    splits: Splits
    first_row: Tensor | None = None
    tiles: Tiles = field(default=NARROW)


@dataclass(frozen=True)
class Outcome:
    """Merged attention, and the buffers of the splits, which held NaN before."""

    out: Tensor
    partial: Tensor
    statistics: Tensor


def decode(step: Step) -> Outcome:
    tokens, heads, _ = step.q.shape
    size, dtype = (tokens, heads, step.splits.cap), partial_type(step.cache.dtype)
    partial = torch.full((*size, step.latent), torch.nan, dtype=dtype)
    statistics = torch.full((*size, 2), torch.nan)
    gpu.absorbed_split(
        *(step.q, step.cache, step.seen, partial, statistics, step.scale),
        splits=step.splits,
        first_row=step.first_row,
        tiles=step.tiles,
    )
    out = torch.full((tokens, heads, step.latent), torch.nan)
    gpu.merge_splits(partial, statistics, step.seen, step.splits, out)
    return Outcome(out, partial, statistics)


def absorbed(q_latent: Tensor, q_rope: Tensor, rows: Tensor, scale: float, start: int) -> Tensor:
    return gpu.absorbed_attention(q_latent, q_rope, rows, scale, start)


def expanded(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor, scale: float, start: int
) -> Tensor:
    return gpu_prompt.expanded_attention(q, k_nope, k_rope, v, scale, start)


def prompt(keys: tuple[Tensor, ...], scale: float, start: int, tiles: PromptTiles) -> Tensor:
    """Attention of q, k_nope, k_rope, v, the last three as strided views of one tensor's kind."""
    q, k_nope, k_rope, v = keys
    both = torch.cat((k_nope, v), -1)
    k_nope, v = both.split([k_nope.shape[-1], v.shape[-1]], -1)
    out = torch.full((*q.shape[:2], v.shape[-1]), torch.nan, dtype=q.dtype)
    gpu_prompt.expanded_prompt(q, k_nope, k_rope, v, scale, start, out, tiles=tiles)
    return out
