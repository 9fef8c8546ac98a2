"""Grouped products of routed experts on this GPU: python -m tools.bench.gpu_grouped [--sweep]

All experts of a layer, decoded to bfloat16, at the real shapes of `kernels.grouped_linear.cases`.

time us      of one launch in a replayed graph
TFLOP/s      of the pairs there are, padding of tiles not counted; `of peak`: over a large product
             of matrices timed just before
error        of the pairs' outputs, against float32 products

--sweep tries tiles and prints the fastest of every shape.
"""

import argparse
import math
from functools import partial

import torch

from kernels import grouped_linear
from kernels.grouped_linear import cases, gpu
from kernels.grouped_linear.cases import Case, Inputs, make
from kernels.grouped_linear.gpu_plan import Tiles, tiles_of
from kernels.testing import compare
from tools.bench.gpu_time import DEVICE, microseconds
from tools.bench.table import Cell, show

COLUMNS = [
    *("product", "tokens", "experts", "width", "rows", "tiles"),
    *("time us", "TFLOP/s", "of peak", "error"),
]
PEAK_SIZE = 8192
SWEPT = (
    Tiles(64, 128, 64, 3, 4),
    Tiles(64, 128, 64, 4, 8),
    Tiles(64, 256, 64, 3, 8),
    Tiles(128, 128, 64, 3, 8),
    Tiles(128, 128, 64, 4, 8),
    Tiles(128, 256, 64, 3, 8),
)


def peak_flop_s() -> float:
    a, b = torch.randn(2, PEAK_SIZE, PEAK_SIZE, device=DEVICE, dtype=torch.bfloat16)
    out = torch.empty_like(a)

    def product() -> None:
        torch.mm(a, b, out=out)

    return 2e6 * PEAK_SIZE**3 / microseconds(product)


def rows_of(case: Case, peak: float, sweep: bool) -> list[list[Cell]]:
    given = make(case, torch.bfloat16, "cuda")
    pairs = grouped_linear.pairs_by_expert(given.chosen, case.first, case.held)
    count = case.tokens * case.used
    hidden = given.x.new_empty(count, case.feed_forward)
    y = given.x.new_empty(count, case.width)
    launches = {
        "hidden": partial(gpu.grouped_hidden, given.x, given.gate, given.up, pairs, 0, hidden),
        "down": partial(gpu.grouped_down, hidden, given.down, pairs, 0, y),
    }
    here = int(pairs.offsets[-1])
    cells: list[list[Cell]] = []
    for name, launch in launches.items():
        matrices = 2 if name == "hidden" else 1
        default = tiles_of(DEVICE, torch.bfloat16, count / case.held, name == "hidden")
        timed = {
            tiles: _time_us(partial(launch, tiles=tiles))
            for tiles in (default, *SWEPT)[: None if sweep else 1]
        }
        best = min(timed, key=lambda tiles: timed[tiles])
        launch(tiles=best)
        flop_s = 2e6 * matrices * here * case.width * case.feed_forward / timed[best]
        shape = (case.tokens, case.held, case.width, case.feed_forward)
        cells.append([name, *shape, _named(best), timed[best], flop_s / 1e12, flop_s / peak])
    error = error_of(case, given, y)
    return [[*row, error] for row in cells]


def error_of(case: Case, given: Inputs, y: torch.Tensor) -> float:
    pairs = grouped_linear.pairs_by_expert(given.chosen, case.first, case.held)
    how = {"implementation": "reference"}
    count = case.tokens * case.used
    x, gate, up, down = (each.float() for each in (given.x, given.gate, given.up, given.down))
    hidden = x.new_zeros(count, case.feed_forward)
    wanted = x.new_zeros(count, case.width)
    grouped_linear.grouped_hidden(x, gate, up, pairs, 0, hidden, **how)
    grouped_linear.grouped_down(hidden, down, pairs, 0, wanted, **how)
    here = pairs.order[: int(pairs.offsets[-1])].long()
    return compare(y[here], wanted[here]).relative_error


def _time_us(launch: "partial[None]") -> float:
    try:
        return microseconds(launch)
    except Exception as error:  # noqa: BLE001  tiles that a GPU has no room for are no result
        print(f"{launch.keywords['tiles']}: {str(error).splitlines()[0]}")
        return math.inf


def _named(tiles: Tiles) -> str:
    return f"{tiles.rows}x{tiles.columns}x{tiles.depth} {tiles.stages} stages {tiles.warps} warps"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweep", action="store_true")
    options = parser.parse_args()
    peak = peak_flop_s()
    print(f"peak: {peak / 1e12:.0f} TFLOP/s in bfloat16")
    rows = [row for case in cases.REAL for row in rows_of(case, peak, options.sweep)]
    show("grouped products", COLUMNS, rows)


if __name__ == "__main__":
    main()
