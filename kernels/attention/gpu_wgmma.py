"""Launches `split_hopper.cu`: the split kernel of decode attention for DeepSeek on sm_90."""

import ctypes

import torch
from torch import Tensor

from kernels.attention.gpu_plan import HALVES, HOPPER, SPLIT_GRANULE, Splits, capability_of
from kernels.cuda import Program, Record
from kernels.cuda.tensor_map import BULK_ALIGNMENT, TensorMap, row_boxes

PROGRAM = Program("attention/split_hopper.cu")
LATENT, WIDTH = 512, 576
HEADS, ROWS = 64, 64  # of a block, of a tile
THREADS = 3 * 128
FEW_HEADS = 32  # that Triton's tiles do not pad to 64: faster until a context is this long
SHORT_ROWS = 32_768
TILE_BYTES = ROWS * WIDTH * 2
SHARED_BYTES = 3 * TILE_BYTES + HEADS * 128 + HEADS * 32 + (3 + 2 + 2 + 1 + 1) * 8 + 3 * HEADS * 4


class SplitRecord(Record):
    _fields_ = [
        ("rows", TensorMap),
        ("q", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
        ("first_row", ctypes.c_void_p),
        ("partial", ctypes.c_void_p),
        ("statistics", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("heads", ctypes.c_int32),
        ("min_tokens", ctypes.c_int32),
        ("granule", ctypes.c_int32),
        ("padding", ctypes.c_int64),
    ]


def is_faster(q: Tensor, cache: Tensor, partial: Tensor) -> bool:
    """Whether `split` takes them, on sm_90: 16-bit rows of 512 + 64 columns, partials of their
    type; and whether it is faster than Triton's kernels.
    """
    heads, width = q.shape[1:]
    return (
        cache.device.type == "cuda"
        and capability_of(cache.device) == HOPPER
        and cache.dtype in HALVES
        and partial.dtype == cache.dtype
        and (partial.shape[-1], width) == (LATENT, WIDTH)
        and cache.stride(0) * cache.itemsize % BULK_ALIGNMENT == 0
        and cache.data_ptr() % BULK_ALIGNMENT == q.data_ptr() % BULK_ALIGNMENT == 0
        and (heads > FEW_HEADS or len(cache) > SHORT_ROWS)
    )


def split(
    q: Tensor,
    cache: Tensor,
    seen: Tensor,
    partial: Tensor,
    statistics: Tensor,
    scale: float,
    *,
    splits: Splits,
    first_row: Tensor | None = None,
) -> None:
    """As `gpu.absorbed_split`, which has checked them, for what `is_faster` names."""
    tokens, heads, _ = q.shape
    record = SplitRecord(
        rows=row_boxes(cache, ROWS),
        q=q.data_ptr(),
        seen=seen.data_ptr(),
        first_row=None if first_row is None else first_row.data_ptr(),
        partial=partial.data_ptr(),
        statistics=statistics.data_ptr(),
        scale=scale,
        heads=heads,
        min_tokens=splits.min_tokens,
        granule=SPLIT_GRANULE,
    )
    grid = (-(-heads // HEADS), splits.cap, tokens)
    PROGRAM.kernel(kernel_name(cache.dtype), cache.device).launch(
        grid, THREADS, record, SHARED_BYTES
    )


def kernel_name(dtype: torch.dtype) -> str:
    return f"split_hopper<{str(dtype == torch.bfloat16).lower()}>"
