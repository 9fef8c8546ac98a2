"""Decode's products on the GPU: how much of its memory's speed they reach, format by format.

    python -m tools.bench.gpu_matvec [--tokens 1,2,4,8] [--no-triton] [--no-formats]

Each row is a replayed graph of launches over so many copies of the matrix that none of them is
still in the second cache. First every format is checked against its decoded weights.

time us     of one launch, x's rounding in it
GB/s        blocks of the matrix over that time
of copy     that over what a copy reads and writes in a second, measured just before
copy us     of matrices below 32 MB: a kernel that reads half as many bytes and writes them, in such
            a graph; as fast as so many bytes are moved at all, a launch included
of that copy   copy us over time us
error       relative, against the decoded weights times the rounded x, in double precision
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import gpu as decoding
from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME, FORMATS
from kernels.linear import gpu
from kernels.planar import PlanarTensor, to_planar
from tools.bench import triton_matvec
from tools.bench.flags import counts
from tools.bench.gpu_time import DEVICE, copy_gb_s, each_us, need_gpu
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
COLUMNS = (
    *("kernel", "format", "rows", "columns", "tokens", "time us", "GB/s", "of copy"),
    *("copy us", "of that copy", "error"),
)
CACHE_BYTES = 240 << 20  # four times an H200's second cache
FEWEST_LAUNCHES = 32
CHECKED_ROWS = 2048
COPIED_BELOW = 32_000_000  # bytes of a matrix: where a launch takes a good part of the time


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    need_gpu("products")
    copied = copy_gb_s()
    print(f"copy: {copied:.0f} GB/s read and written")
    rows: list[list[Cell]] = []
    for name, count, columns in SHAPES:
        rows += _of_matrix(_weight(name, count, columns), arguments, copied)
    if not arguments.no_formats:
        arguments.tokens, arguments.no_triton = [1], True
        for known in FORMATS:
            rows += _of_matrix(_weight(known.name, 8192, 8192), arguments, copied)
    show("gpu_matvec", COLUMNS, rows)


def _of_matrix(
    weight: PlanarTensor, arguments: argparse.Namespace, copied: float
) -> list[list[Cell]]:
    copies = _copies(weight)
    x = torch.randn(8, weight.columns, device=DEVICE)
    out = torch.empty(8, weight.rows, device=DEVICE)
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
        us = each_us(work, copies)
        gb_s = weight.nbytes / us / 1e3
        shape = (weight.format.name, weight.rows, weight.columns, tokens)
        rows.append([kernel, *shape, us, gb_s, gb_s / copied, *_beside_copy(weight, us), error])
    if weight.format.name not in decoding.PLAIN:
        rows.append(_decoding_row(weight, copied))
    return rows


def _matvec(weight: PlanarTensor, x: Tensor, out: Tensor, tokens: int) -> None:
    gpu.matvec(x, [gpu.Product(weight, out)], tokens)


def _decoding_row(weight: PlanarTensor, copied: float) -> list[Cell]:
    """Decoding at most 2^26 weights to bfloat16; bytes read and written."""
    part = weight[: max(1, min(weight.rows, (1 << 26) // weight.columns))]
    out = torch.empty(part.shape, dtype=torch.bfloat16, device=DEVICE)
    us = each_us(lambda one: decoding.decode_into(one, out), [part] * FEWEST_LAUNCHES)
    gb_s = (part.nbytes + 2 * out.numel()) / us / 1e3
    shape = (weight.format.name, part.rows, weight.columns, 0)
    return ["decode bf16", *shape, us, gb_s, gb_s / copied, "-", "-", 0.0]


def _beside_copy(weight: PlanarTensor, us: float) -> tuple[Cell, Cell]:
    if weight.nbytes >= COPIED_BELOW:
        return "-", "-"
    copy_us = _copy_us(weight.nbytes)
    return copy_us, copy_us / us


@lru_cache
def _copy_us(nbytes: int) -> float:
    """Of moving so many bytes by a kernel: half of them read, half written.

    Not by copy_, which a graph holds as no kernel (`gpu_time`); the sign of what is read is turned.
    """
    count = _copies_of(nbytes)
    pairs = [
        (torch.rand(nbytes // 8, device=DEVICE), torch.empty(nbytes // 8, device=DEVICE))
        for _ in range(count)
    ]
    return each_us(_turn_signs, pairs * -(-FEWEST_LAUNCHES // count))


def _turn_signs(pair: tuple[Tensor, Tensor]) -> None:
    source, target = pair
    torch.neg(source, out=target)


def _error(weight: PlanarTensor, x: Tensor, out: Tensor, exact: bool) -> float:
    """Of the first rows."""
    part = weight[:CHECKED_ROWS]
    matrix = torch.empty(part.shape, device=DEVICE)
    decoding.decode_into(part, matrix)
    if not exact and weight.format.block_weights > 1:
        groups = x.reshape(-1, 32)
        d = groups.abs().amax(1, keepdim=True) / 127
        x = ((groups / d).round().double() * d).view(x.shape)
    expected = x.double() @ matrix.double().T
    return float((out[:, : part.rows].double() - expected).norm() / expected.norm())


def _weight(name: str, rows: int, columns: int) -> PlanarTensor:
    """64 rows of blocks like a model's, again and again."""
    few = like_weights(BY_NAME[name], (64, columns)).blocks.to(DEVICE)
    blocks = few.repeat(-(-rows // 64), 1)[:rows]
    torch.cuda.synchronize()
    start = time.perf_counter()
    planar = to_planar(BlockTensor(blocks, BY_NAME[name], columns))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(f"{name} {rows} x {columns}: sorted at {planar.nbytes / seconds / 1e9:.0f} GB/s")
    return planar


def _copies(weight: PlanarTensor) -> list[PlanarTensor]:
    """In turn, often enough for FEWEST_LAUNCHES."""
    count = _copies_of(weight.nbytes)
    copies = [
        PlanarTensor(weight.data.clone(), weight.format, weight.shape, weight.total_rows)
        for _ in range(count)
    ]
    return copies * -(-FEWEST_LAUNCHES // count)


def _copies_of(nbytes: int) -> int:
    """So many that the second cache holds none of them until its next turn."""
    return max(2, -(-CACHE_BYTES // nbytes))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="products of few tokens on a GPU")
    parser.add_argument("--tokens", type=counts, default=[1, 2, 4, 8])
    parser.add_argument("--no-triton", action="store_true", help="without the compared kernels")
    parser.add_argument("--no-formats", action="store_true", help="without all formats at 8192²")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
