"""Prompt attention of `gpu_attention`: TFLOP/s over visible pairs of query and key, bf16."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.attention import gpu_prompt, reference
from kernels.attention.gpu_plan import PromptTiles
from kernels.testing import compare
from tools.bench.gpu_time import DEVICE, microseconds
from tools.bench.table import Cell

NOPE, ROPE, VALUE, SCALE = 128, 64, 128, 192**-0.5
TOKENS, SEEN = 4096, (4096, 16384)
CHECKED = 32  # queries, of two heads: scores of all would not fit
SWEPT = tuple(
    PromptTiles(queries, keys, stages, warps, bulk)
    for queries, warps in ((128, 8), (64, 4))
    for keys in (64, 128)
    for stages in (2, 3)
    for bulk in (True, False)
)

Table = tuple[str, tuple[str, ...], list[list[Cell]]]


def prompt_rows(heads: list[int]) -> Table:
    columns = ("heads", "tokens", "seen", "time us", "TFLOP/s", "error")
    cells: list[list[Cell]] = []
    for count, seen, inputs, out in _cases(heads):
        time_us = _time(inputs, out, seen, None)
        rate = _flop(count, seen) / time_us / 1e6
        cells.append([count, TOKENS, seen, time_us, rate, _error(inputs, out, seen)])
    return "gpu attention, prompts", columns, cells


def sweep_prompts(heads: list[int]) -> Table:
    columns = ("heads", "tokens", "seen", "TFLOP/s", "tiles")
    cells: list[list[Cell]] = []
    for count, seen, inputs, out in _cases(heads):
        timed: list[list[Cell]] = []
        for tiles in SWEPT:
            time_us = _time(inputs, out, seen, tiles)
            timed.append([_flop(count, seen) / time_us / 1e6, str(tiles)])
        timed = [each for each in timed if not math.isnan(float(each[0]))]
        timed.sort(key=lambda each: -float(each[0]))
        cells += [[count, TOKENS, seen, *each] for each in timed[:5]]
    return "gpu attention, sweep of prompts", columns, cells


def _cases(heads: list[int]) -> Iterator[tuple[int, int, tuple[Tensor, ...], Tensor]]:
    for count in heads:
        for seen in SEEN:
            kind = {"dtype": torch.bfloat16, "device": DEVICE}
            q = torch.randn(TOKENS, count, NOPE + ROPE, **kind)
            k_nope, v = torch.randn(seen, count, NOPE + VALUE, **kind).split([NOPE, VALUE], -1)
            k_rope = torch.randn(seen, 512 + ROPE, **kind)[:, 512:]
            out = torch.empty(TOKENS, count, VALUE, **kind)
            yield count, seen, (q, k_nope, k_rope, v), out


def _time(inputs: tuple[Tensor, ...], out: Tensor, seen: int, tiles: PromptTiles | None) -> float:
    def launch() -> None:
        gpu_prompt.expanded_prompt(*inputs, SCALE, seen - TOKENS, out, tiles=tiles)

    try:
        launch()
    except Exception as error:  # noqa: BLE001  Triton has a class of its own for every limit
        print(f"left out {tiles}: {type(error).__name__}")
        return math.nan
    return microseconds(launch)


def _flop(heads: int, seen: int) -> float:
    pairs = TOKENS * (seen - TOKENS) + TOKENS * (TOKENS + 1) / 2
    return 2.0 * heads * pairs * (NOPE + ROPE + VALUE)


def _error(inputs: tuple[Tensor, ...], out: Tensor, seen: int) -> float:
    """Of the last queries of the first two heads."""
    q, k_nope, k_rope, v = inputs
    cut = (q[-CHECKED:, :2], k_nope[:, :2], k_rope, v[:, :2])
    exact = (each.double() for each in cut)
    expected = reference.expanded_attention(*exact, SCALE, seen - CHECKED)
    return compare(out[-CHECKED:, :2], expected).relative_error
