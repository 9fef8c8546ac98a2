"""Rows of `linear` and `dequantize`: single matrices, a different one in every call."""

import ctypes
from collections.abc import Callable, Iterator
from functools import partial

import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.formats import BlockFormat
from kernels.native import pool, records
from kernels.native.library import library
from kernels.testing import compare
from tools.bench.kernel_rows.experts import PRECISIONS
from tools.bench.kernel_rows.measure import TIERS, Contender, Group, Setup, Work, chain
from tools.bench.kernel_rows.memory import RamMemory

COMPARED_ROWS = 64


def linear_groups(setup: Setup) -> Iterator[Group]:
    return _groups(setup, "linear", _linear_contenders)


def dequantize_groups(setup: Setup) -> Iterator[Group]:
    """GB/s counts blocks only: as many times more bytes are written."""
    return _groups(setup, "dequantize", _dequantize_contenders)


def _groups(
    setup: Setup, op: str, contenders: Callable[..., Iterator[Contender]]
) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for block_format in setup.formats:
            for rows, columns in shape.linears:
                one = rows * block_format.row_bytes(columns)
                count = -(-shape.ram_bytes // one)
                size = (count, rows, columns)
                yield Group(
                    *(op, block_format.name, f"{rows}x{columns}", count * one + 64),
                    partial(contenders, setup, block_format, size),
                )


def _linear_contenders(
    setup: Setup, block_format: BlockFormat, size: tuple[int, int, int], memory: RamMemory
) -> Iterator[Contender]:
    weights = memory.blocks(block_format, size)
    for tokens in setup.tokens:
        for precision in setup.precisions:
            for tier in setup.tiers:
                yield linear_contender(setup, weights, tokens, tier, precision)


def linear_contender(
    setup: Setup, weights: BlockTensor, tokens: int, tier: str, precision: str
) -> Contender:
    """Of weights [matrices, rows, columns]."""
    _, rows, columns = weights.shape
    x = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(1))
    y = torch.empty(tokens, rows)
    made = [records.matrix(weights[i]) for i in range(len(weights.blocks))]
    where = (TIERS[tier], PRECISIONS[precision])
    native = library()
    needed = native.hybrid_linear_bytes(*where, ctypes.byref(made[0]), tokens, setup.threads)
    room = torch.empty(needed + 64, dtype=torch.uint8)
    workspace = room.data_ptr() + -room.data_ptr() % 64
    calls = [
        partial(
            native.hybrid_linear,
            *(*where, setup.threads, ctypes.addressof(matrix), x.data_ptr(), columns, tokens),
            *(y.data_ptr(), workspace, needed),
        )
        for matrix in made
    ]

    def error() -> float:
        pool.check(calls[0]())
        exact = dequantize(weights[0][:COMPARED_ROWS]).double()
        return compare(y[:, :COMPARED_ROWS], x.double() @ exact.T).relative_error

    macs = tokens * rows * columns
    work = Work(tier, precision, tokens, setup.threads, weights[0].nbytes, macs)
    return Contender(work, chain(calls), error, keeps=(made, room))


def _dequantize_contenders(
    setup: Setup, block_format: BlockFormat, size: tuple[int, int, int], memory: RamMemory
) -> Iterator[Contender]:
    weights = memory.blocks(block_format, size)
    count, rows, columns = size
    out = torch.empty(rows, columns)
    for tier in setup.tiers:
        calls = [
            partial(
                library().hybrid_dequantize,
                *(TIERS[tier], setup.threads, block_format.ggml_id),
                *(weights.blocks[i].data_ptr(), 0, rows, weights.blocks.stride(1), rows, columns),
                out.data_ptr(),
            )
            for i in range(count)
        ]

        def error(calls: list[partial[int]] = calls) -> float:
            pool.check(calls[0]())
            expected = dequantize(weights[0][:COMPARED_ROWS], implementation="reference")
            differing = out[:COMPARED_ROWS].view(torch.int32) != expected.view(torch.int32)
            return float(differing.sum())

        work = Work(tier, "-", 0, setup.threads, weights[0].nbytes)
        yield Contender(work, chain(calls), error)
