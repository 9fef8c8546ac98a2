"""Every implementation of dequantize and linear over the real shapes of their cases.

    python -m tools.bench.kernels [--formats Q4_K,Q6_K] [--threads N]

read GB/s     bytes of blocks over the time
of read       that over what this machine reads with as many threads, measured first: 1 is the limit
G weights/s   decoded, or decoded and multiplied with all tokens
error         dequantize: values that differ in a bit; linear: relative, against double precision
"""

import argparse
import time
from collections.abc import Callable, Iterator

import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import IMPLEMENTATIONS as DEQUANTIZE
from kernels.dequantize import cases as dequantize_cases
from kernels.dequantize import dequantize
from kernels.formats import BY_NAME, BlockFormat
from kernels.linear import IMPLEMENTATIONS as LINEAR
from kernels.linear import cases as linear_cases
from kernels.linear import linear
from kernels.testing import compare
from tools.bench.table import Cell, show

FORMATS = "Q4_K,Q6_K,Q8_0,Q5_0,IQ4_NL,IQ2_XXS,BF16"
COLUMNS = (
    "op",
    "format",
    "implementation",
    "tokens",
    "shape",
    "time us",
    "G weights/s",
    "read GB/s",
    "of read",
    "error",
)
READ_BYTES = 1 << 28


def main() -> None:
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    read_gb_s = measured_read_gb_s()
    rows: list[list[Cell]] = []
    for name in arguments.formats.split(","):
        rows += dequantize_rows(BY_NAME[name], read_gb_s)
        rows += linear_rows(BY_NAME[name], read_gb_s)
    show(f"kernels (this machine reads {read_gb_s:.1f} GB/s)", COLUMNS, rows)


def dequantize_rows(block_format: BlockFormat, read_gb_s: float) -> Iterator[list[Cell]]:
    for shape in dequantize_cases.REAL:
        weight = dequantize_cases.like_weights(block_format, shape)
        out = torch.empty(shape)
        expected = dequantize(weight, implementation="reference").view(torch.int32)
        for implementation in DEQUANTIZE:
            seconds = best_seconds(lambda: dequantize(weight, out, implementation=implementation))  # noqa: B023
            differing = int((out.view(torch.int32) != expected).sum())
            speed = speeds(weight, seconds, read_gb_s)
            yield ["dequantize", block_format.name, implementation, "-", *speed, differing]


def linear_rows(block_format: BlockFormat, read_gb_s: float) -> Iterator[list[Cell]]:
    for shape in linear_cases.REAL:
        weight = dequantize_cases.like_weights(block_format, shape)
        exact = dequantize(weight).double().T
        for tokens in linear_cases.REAL_TOKENS:
            x = torch.randn(tokens, shape[1])
            expected = x.double() @ exact
            for implementation in LINEAR:
                seconds = best_seconds(lambda: linear(x, weight, implementation=implementation))  # noqa: B023
                error = compare(linear(x, weight, implementation=implementation), expected)
                speed = speeds(weight, seconds, read_gb_s)
                yield [
                    *("linear", block_format.name, implementation, tokens),
                    *speed,
                    error.relative_error,
                ]


def speeds(weight: BlockTensor, seconds: float, read_gb_s: float) -> list[Cell]:
    """shape, time us, G weights/s, read GB/s, of read."""
    rows, columns = weight.shape
    gb_s = weight.nbytes / seconds / 1e9
    weights_per_s = rows * columns / seconds
    return [f"{rows}x{columns}", seconds * 1e6, weights_per_s / 1e9, gb_s, gb_s / read_gb_s]


def measured_read_gb_s() -> float:
    """A sum over memory larger than the caches, with the threads in use."""
    values = torch.ones(READ_BYTES // 4)
    return READ_BYTES / best_seconds(lambda: values.sum()) / 1e9


def best_seconds(run: Callable[[], object], budget_s: float = 0.2) -> float:
    """The shortest of as many runs as fit the budget, three at least: others only add time."""
    run()
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or spent < budget_s:
        begin = time.perf_counter()
        run()
        took = time.perf_counter() - begin
        best, spent, runs = min(best, took), spent + took, runs + 1
    return best


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", default=FORMATS, help=f"names, comma between ({FORMATS})")
    parser.add_argument("--threads", type=int, default=0, help="default: as torch has it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
