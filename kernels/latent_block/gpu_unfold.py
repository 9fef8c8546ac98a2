"""Launches `unfold.cu`: the splits of decode attention become the values of each head."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.split_results import PARTS, SplitResults, SplitResultsRecord
from kernels.cuda import Program, Record
from kernels.errors import KernelInputError
from kernels.latent_block.gpu_records import (
    THREADS,
    HeadRows,
    check,
    check_devices,
    format_struct,
    input_bytes,
    power_of_two_in,
    processors,
    token_class,
)
from kernels.planar import MatrixRecord, PlanarTensor

PROGRAM = Program("latent_block/unfold.cu")
MOST_PART_COLUMNS = 128


class UnfoldRecord(Record):
    _fields_ = [
        ("value", MatrixRecord),
        ("results", SplitResultsRecord),
        ("shares", ctypes.c_void_p),
        ("counters", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("tokens", ctypes.c_int32),
        ("values", ctypes.c_int32),
        ("head_rows", ctypes.c_int32),
        ("part_bits", ctypes.c_int32),
    ]


@dataclass(frozen=True, slots=True)
class UnfoldScratch:
    """Memory of `unfold` that every layer may share.

    shares        [tokens, heads, parts, values] float32
    counters      [tokens, heads] int32, zero before and after a launch
    part_columns  latent values that a block merges
    """

    shares: Tensor
    counters: Tensor
    part_columns: int


def unfold_scratch(
    tokens: int, value: HeadRows, *, part_columns: int | None = None
) -> UnfoldScratch:
    """For steps of up to `tokens` tokens and weights of this shape, on the weight's device.

    part_columns   a power of 2, 32 or more, that divides the latent; None: by the device
    """
    device, latent = value.weight.device, value.weight.columns
    part_columns = part_columns or _part_columns(value)
    parts = -(-latent // part_columns)
    return UnfoldScratch(
        shares=torch.zeros(tokens, value.heads, parts, value.count, device=device),
        counters=torch.zeros(tokens, value.heads, dtype=torch.int32, device=device),
        part_columns=part_columns,
    )


def unfold(results: SplitResults, value: HeadRows, out: Tensor, scratch: UnfoldScratch) -> None:
    """out[t, h] = W_value[h] o[t, h], o = sum_s w_s partial_s / sum_s w_s, w_s = 2^(max_s) sum_s.

    results   see its class; splits behind the last that was written may hold anything
    value     [heads, values, latent] of any format
    out       [tokens, heads, values] float32; zeros for a token that sees nothing
    scratch   of `unfold_scratch` for these tokens and this shape

    For weights of blocks o is rounded to int8 by 32. CPU tensors are emulated, for tests.

    Does not wait for the GPU. The launch in front does not write results.seen and lets this one
    start only after its own wait, as `absorbed_split` does.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report, section 2.1.2; merging as in FlashDecoding.
    """
    tokens, heads, cap, latent = results.partial.shape
    _check(results, value, out, scratch)
    record = UnfoldRecord(
        value=value.record(),
        results=results.record(),
        shares=scratch.shares.data_ptr(),
        counters=scratch.counters.data_ptr(),
        out=out.data_ptr(),
        tokens=tokens,
        values=value.count,
        head_rows=value.head_rows,
        part_bits=scratch.part_columns.bit_length() - 1,
    )
    wide = 1 if latent % 4 else 4
    at_once = token_class(tokens)
    name = kernel_name(value.weight, results.partial.dtype, at_once, wide)
    columns = scratch.part_columns
    floats = THREADS * wide + -(-2 * cap // 4) * 4
    shared_bytes = at_once * (4 * floats + input_bytes(value.weight, columns))
    PROGRAM.kernel(name, out.device).launch(
        (-(-latent // columns), heads, 1), THREADS, record, shared_bytes
    )


def kernel_name(weight: PlanarTensor, partial: torch.dtype, tokens: int, wide: int) -> str:
    return f"unfold<{format_struct(weight)}, {PARTS[partial]}, {tokens}, {THREADS}, {wide}>"


def _part_columns(value: HeadRows) -> int:
    """As many as leave a block for nearly every multiprocessor, but no more than a few loads."""
    groups = -(-value.weight.columns // 32)
    largest = min(power_of_two_in(groups), MOST_PART_COLUMNS // 32)
    while largest > 1 and value.heads * (groups // largest) < 0.9 * processors(value.weight.device):
        largest //= 2
    return 32 * largest


def _check(results: SplitResults, value: HeadRows, out: Tensor, scratch: UnfoldScratch) -> None:
    tokens, heads, cap, latent = results.partial.shape
    if (value.heads, value.weight.columns) != (heads, latent):
        raise KernelInputError(
            f"partial {tuple(results.partial.shape)} does not fit values of {value.weight.shape}"
        )
    if results.partial.dtype not in PARTS:
        raise KernelInputError(f"partial must be one of {list(PARTS)}, not {results.partial.dtype}")
    check("partial", results.partial, results.partial.dtype, (tokens, heads, cap, latent))
    check("statistics", results.statistics, torch.float32, (tokens, heads, cap, 2))
    check("seen", results.seen, torch.int32, (tokens,))
    check("out", out, torch.float32, (tokens, heads, value.count))
    columns = scratch.part_columns
    groups = -(-latent // 32)
    if columns % 32 or groups % (columns // 32) or columns & (columns - 1):
        raise KernelInputError(f"parts of {columns} columns do not cut a latent of {latent}")
    parts = -(-latent // columns)
    if scratch.shares.shape[1:] != (heads, parts, value.count) or len(scratch.counters) < tokens:
        raise KernelInputError(
            f"scratch {tuple(scratch.shares.shape)} is not for"
            f" {(tokens, heads, parts, value.count)}"
        )
    if min(results.min_tokens, results.granule) < 1:
        raise KernelInputError(
            f"splits of {results.min_tokens} tokens by {results.granule} have no end"
        )
    check_devices(
        results.partial.device,
        statistics=results.statistics,
        seen=results.seen,
        value=value.weight.data,
        out=out,
        shares=scratch.shares,
        counters=scratch.counters,
    )
