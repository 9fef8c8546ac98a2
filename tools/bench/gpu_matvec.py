"""Decode's products on the GPU: how much of its memory's speed they reach, format by format.

    python -m tools.bench.gpu_matvec [--tokens 1,2,4,8] [--no-triton] [--no-formats]

Each row is a replayed graph of launches over so many copies of the matrix that none of them is
still in the second cache. First every format is checked against its decoded weights.

time us     of one launch, x's rounding in it
GB/s        blocks of the matrix over that time
of copy     that over what copying 1 GiB reads and writes in a second, measured just before
error       relative, against the decoded weights times the rounded x, in double precision
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import gpu as decoding
from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME, FORMATS
from kernels.linear import gpu
from kernels.planar import PlanarTensor, to_planar
from tools.bench import triton_matvec
from tools.bench.table import Cell, show

# format, rows, columns: V2-Lite's attention, head and experts; V3's attention, dense layer, head
SHAPES = (
    ("Q8_0", 2048, 2048),
    ("Q8_0", 3072, 2048),
    ("Q8_0", 102400, 2048),
    ("IQ4_NL", 1408 * 64, 2048),
    ("IQ4_NL", 2048 * 64, 1408),
    ("Q4_K", 2112, 7168),
    ("Q4_K", 24576, 1536),
    ("Q4_K", 7168, 16384),
    ("Q4_K", 18432, 7168),
    ("Q4_K", 7168, 18432),
    ("Q6_K", 129280, 7168),
    ("F32", 256, 7168),
)
COLUMNS = ("kernel", "format", "rows", "columns", "tokens", "time us", "GB/s", "of copy", "error")
CACHE_BYTES = 240 << 20  # four times an H200's second cache
FEWEST_LAUNCHES = 32
REPLAYS = 10
CHECKED_ROWS = 2048


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    if not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device; this bench measures products on one")
    copy_gb_s = _copy_gb_s()
    print(f"copy: {copy_gb_s:.0f} GB/s read and written")
    rows: list[list[Cell]] = []
    for name, count, columns in SHAPES:
        rows += _of_matrix(_weight(name, count, columns), arguments, copy_gb_s)
    if not arguments.no_formats:
        arguments.tokens, arguments.no_triton = [1], True
        for known in FORMATS:
            rows += _of_matrix(_weight(known.name, 8192, 8192), arguments, copy_gb_s)
    show("gpu_matvec", COLUMNS, rows)


def _of_matrix(
    weight: PlanarTensor, arguments: argparse.Namespace, copy_gb_s: float
) -> list[list[Cell]]:
    copies = _copies(weight)
    x = torch.randn(8, weight.columns, device="cuda")
    out = torch.empty(8, weight.rows, device="cuda")
    works: list[tuple[str, int, Callable[[PlanarTensor], None]]] = [
        ("cuda", tokens, partial(_matvec, x=x, out=out, tokens=tokens))
        for tokens in arguments.tokens
    ]
    if weight.format.name in triton_matvec.FLOAT and not arguments.no_triton:
        numbers, factors = triton_matvec.rounded(x[0])
        works += [
            ("triton float", 1, lambda one: triton_matvec.matvec_float(one, x, out)),
            ("triton dp4a", 1, lambda one: triton_matvec.matvec_dp4a(one, numbers, factors, out)),
        ]
    rows: list[list[Cell]] = []
    for kernel, tokens, work in works:
        out.fill_(torch.nan)
        work(weight)
        error = _error(weight, x[:tokens], out[:tokens], exact=kernel == "triton float")
        seconds = _seconds(work, copies)
        gb_s = weight.nbytes / seconds / 1e9
        shape = (weight.format.name, weight.rows, weight.columns, tokens)
        rows.append([kernel, *shape, seconds * 1e6, gb_s, gb_s / copy_gb_s, error])
    if weight.format.name not in decoding.PLAIN:
        rows.append(_decoding_row(weight, copy_gb_s))
    return rows


def _matvec(weight: PlanarTensor, x: Tensor, out: Tensor, tokens: int) -> None:
    gpu.matvec(x, [gpu.Product(weight, out)], tokens)


def _decoding_row(weight: PlanarTensor, copy_gb_s: float) -> list[Cell]:
    """Decoding at most 2^26 weights to bfloat16; bytes read and written."""
    part = weight[: max(1, min(weight.rows, (1 << 26) // weight.columns))]
    out = torch.empty(part.shape, dtype=torch.bfloat16, device="cuda")
    seconds = _seconds(lambda one: decoding.decode_into(one[: len(out)], out), [weight])
    gb_s = (part.nbytes + 2 * out.numel()) / seconds / 1e9
    shape = (weight.format.name, part.rows, weight.columns, 0)
    return ["decode bf16", *shape, seconds * 1e6, gb_s, gb_s / copy_gb_s, 0.0]


def _error(weight: PlanarTensor, x: Tensor, out: Tensor, exact: bool) -> float:
    """Of the first rows."""
    part = weight[:CHECKED_ROWS]
    matrix = torch.empty(part.shape, device="cuda")
    decoding.decode_into(part, matrix)
    if not exact and weight.format.block_weights > 1:
        groups = x.reshape(-1, 32)
        d = groups.abs().amax(1, keepdim=True) / 127
        x = ((groups / d).round().double() * d).view(x.shape)
    expected = x.double() @ matrix.double().T
    return float((out[:, : part.rows].double() - expected).norm() / expected.norm())


def _weight(name: str, rows: int, columns: int) -> PlanarTensor:
    """64 rows of blocks like a model's, again and again."""
    few = like_weights(BY_NAME[name], (64, columns)).blocks.cuda()
    blocks = few.repeat(-(-rows // 64), 1)[:rows]
    torch.cuda.synchronize()
    start = time.perf_counter()
    planar = to_planar(BlockTensor(blocks, BY_NAME[name], columns))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(f"{name} {rows} x {columns}: sorted at {planar.nbytes / seconds / 1e9:.0f} GB/s")
    return planar


def _copies(weight: PlanarTensor) -> list[PlanarTensor]:
    count = max(2, -(-CACHE_BYTES // weight.nbytes))
    return [
        PlanarTensor(weight.data.clone(), weight.format, weight.shape, weight.total_rows)
        for _ in range(count)
    ]


def _seconds(work: Callable[[PlanarTensor], None], copies: Sequence[PlanarTensor]) -> float:
    """Of one launch in a replayed graph over all copies; the median of the replays."""
    rounds = -(-FEWEST_LAUNCHES // len(copies))
    work(copies[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for copy in copies:
                work(copy)
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[REPLAYS // 2] / 1e3 / rounds / len(copies)


def _copy_gb_s() -> float:
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = torch.inf
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end))
    return 2 * source.numel() / best / 1e6


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="products of few tokens on a GPU")
    parser.add_argument(
        "--tokens", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2, 4, 8]
    )
    parser.add_argument("--no-triton", action="store_true", help="without the compared kernels")
    parser.add_argument("--no-formats", action="store_true", help="without all formats at 8192²")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
