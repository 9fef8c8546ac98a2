"""Launches the grouped products: one grid for all experts, tiles found on the device."""

import triton
from torch import Tensor

from kernels.grouped_linear import Pairs, gpu_kernel
from kernels.grouped_linear.gpu_plan import Tiles, tiles_of

ADDED_COLUMNS = 1024  # of a program of add_pairs


def grouped_hidden(
    x: Tensor,
    gate: Tensor,
    up: Tensor,
    pairs: Pairs,
    begin: int,
    out: Tensor,
    *,
    tiles: Tiles | None = None,
) -> None:
    """See `kernels.grouped_linear.grouped_hidden`; tiles None: those of `tiles_of`."""
    _product(x, (gate, up), pairs, begin, out, tiles)


def grouped_down(
    hidden: Tensor,
    down: Tensor,
    pairs: Pairs,
    begin: int,
    out: Tensor,
    *,
    tiles: Tiles | None = None,
) -> None:
    """See `kernels.grouped_linear.grouped_down`; tiles None: those of `tiles_of`."""
    _product(hidden, (down,), pairs, begin, out, tiles)


def add_pairs(
    h: Tensor, y: Tensor, chosen: Tensor, share: Tensor, first_expert: int, experts: int
) -> None:
    """See `kernels.grouped_linear.add_pairs`."""
    tokens, width = h.shape
    if not h.numel():
        return
    columns = min(ADDED_COLUMNS, int(triton.next_power_of_2(width)))
    gpu_kernel.add_pairs[tokens, triton.cdiv(width, columns)](
        *(h, y, chosen, share, chosen.shape[1], width, first_expert, experts), N=columns
    )


def _product(
    source: Tensor,
    weights: tuple[Tensor, ...],
    pairs: Pairs,
    begin: int,
    out: Tensor,
    tiles: Tiles | None,
) -> None:
    experts, rows, columns = weights[0].shape
    count, all_experts = len(pairs.order), len(pairs.offsets) - 1
    if not count or not experts or not rows:
        return
    gated = len(weights) == 2
    tiles = tiles or tiles_of(source.device, source.dtype, count / all_experts, gated)
    # Each expert's last tile may be broken.
    grid = (triton.cdiv(count, tiles.rows) + experts, triton.cdiv(rows, tiles.columns))
    gpu_kernel.grouped_product[grid](
        *(source, weights[0], weights[-1], pairs.order, pairs.offsets[begin:], out),
        *(experts, pairs.used, rows, columns),
        GATED=gated,
        WHOLE=rows % tiles.columns == columns % tiles.depth == 0,
        E=int(triton.next_power_of_2(all_experts)),  # one kernel for groups of any size
        M=tiles.rows,
        N=tiles.columns,
        K=tiles.depth,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
