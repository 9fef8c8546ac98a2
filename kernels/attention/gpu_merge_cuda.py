"""Launches `merge.cu`, which merges the splits of decode attention. CPU tensors are emulated."""

import ctypes
import math

import torch
from torch import Tensor

from kernels.attention.gpu_plan import HOPPER, capability_of, overlaps, processors
from kernels.attention.split_results import PARTS, SplitResults, SplitResultsRecord
from kernels.cuda import Program, Record

PROGRAM = Program("attention/merge.cu")
THREADS = 256
COLUMNS = (256, 128, 64)  # of a block
MOST_COLUMNS = {4: 128, 2: 256}  # by a value's bytes: a warp reads whole splits
ENOUGH_BLOCKS = 128
HOPPER_SHARED_BYTES = 228 << 10  # of a multiprocessor


class MergeRecord(Record):
    _fields_ = [("results", SplitResultsRecord), ("out", ctypes.c_void_p)]


def columns_of(partial: Tensor) -> int | None:
    """Of a block: as many as leave enough blocks; None where the latent is no multiple of any."""
    tokens, heads, _, latent = partial.shape
    most = MOST_COLUMNS[partial.itemsize]
    fitting = [each for each in COLUMNS if latent % each == 0 and each <= most]
    full = [each for each in fitting if tokens * heads * (latent // each) >= ENOUGH_BLOCKS]
    return next(iter(full), fitting[-1] if fitting else None)


def merge(results: SplitResults, out: Tensor, columns: int) -> None:
    """As `gpu.merge_splits`, for a latent that is a multiple of `columns`."""
    tokens, heads, cap, latent = results.partial.shape
    record = MergeRecord(results=results.record(), out=out.data_ptr())
    grid = (latent // columns, heads, tokens)
    shared_bytes = max(8 * cap, spread_bytes(out.device, math.prod(grid)))
    kernel = PROGRAM.kernel(kernel_name(results.partial.dtype, columns), out.device)
    kernel.launch(grid, THREADS, record, shared_bytes)


def spread_bytes(device: torch.device, blocks: int) -> int:
    """Of dynamic shared memory a block, on sm_90, which is more than it needs.

    Blocks that start early gather on the multiprocessors that the splits leave first, and those few
    would merge everything; with as much as this no multiprocessor takes more than its even share.
    """
    if not overlaps(device) or capability_of(device) != HOPPER:
        return 0
    return HOPPER_SHARED_BYTES // (-(-blocks // processors(device)) + 1)


def kernel_name(partial: torch.dtype, columns: int) -> str:
    return f"merge_splits<{PARTS[partial]}, {columns}, {THREADS}>"
