"""Maps of tensors for Hopper's bulk copy engine, which copies boxes of them to shared memory."""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from kernels.cuda.driver_library import call
from kernels.errors import KernelInputError

TYPES = {torch.float16: 6, torch.bfloat16: 9}  # CUtensorMapDataType
SWIZZLE_128, PROMOTE_256 = 3, 3  # CUtensorMapSwizzle, CUtensorMapL2promotion
SWIZZLED_COLUMNS = 64  # of 16 bits: 128 bytes
ALIGNMENT = 64  # of a map, in bytes
BULK_ALIGNMENT = 16  # of the tensor and of its rows, in bytes


class TensorMap(ctypes.Structure):
    """CUtensorMap, as `TensorMap` of device_hopper.h."""

    _fields_ = (("words", ctypes.c_uint64 * 16),)


def row_boxes(rows: Tensor, box_rows: int) -> TensorMap:
    """Whole rows, `box_rows` at a time, as boxes of 64 columns [columns / 64, box_rows, 64] in the
    swizzle of 128 bytes; zeros beyond the last row.

    rows   [count, columns] float16 or bfloat16 on a GPU, columns a multiple of 64, a row
           contiguous, rows and their pitch multiples of 16 bytes; on a CPU for the emulator

    Raises KernelInputError where they are not, CudaCallFailed when the driver refuses.
    """
    pitch = rows.stride(0) * rows.itemsize
    fits = rows.dtype in TYPES and rows.stride(1) == 1 and 0 < box_rows <= 256
    fits = fits and rows.shape[1] % SWIZZLED_COLUMNS == 0
    if not fits or pitch % BULK_ALIGNMENT or rows.data_ptr() % BULK_ALIGNMENT:
        raise KernelInputError(
            f"{box_rows} rows of {tuple(rows.shape)} {rows.dtype}, strides {rows.stride()}: the"
            f" copy engine takes up to 256 rows of 16-bit values, at multiples of {BULK_ALIGNMENT}"
            f" bytes, of a multiple of {SWIZZLED_COLUMNS} columns"
        )
    boxes = rows.shape[1] // SWIZZLED_COLUMNS
    if rows.device.type == "cpu":  # what device_hopper_plain.h reads
        return TensorMap((rows.data_ptr(), len(rows), pitch, boxes, box_rows))
    return encoded(rows.data_ptr(), rows.dtype, tuple(rows.shape), pitch, box_rows)


@lru_cache(maxsize=1024)
def encoded(
    address: int, dtype: torch.dtype, shape: tuple[int, int], pitch: int, box_rows: int
) -> TensorMap:
    """The driver's map of rows of this shape, their pitch in bytes. Raises CudaCallFailed."""
    room = (ctypes.c_ubyte * (ctypes.sizeof(TensorMap) + ALIGNMENT))()
    begin = ctypes.addressof(room)
    encoded = TensorMap.from_address(begin + -begin % ALIGNMENT)
    count, columns = shape
    boxes = columns // SWIZZLED_COLUMNS
    call(
        "cuTensorMapEncodeTiled",
        ctypes.addressof(encoded),
        TYPES[dtype],
        3,
        address,
        (ctypes.c_uint64 * 3)(SWIZZLED_COLUMNS, count, boxes),
        (ctypes.c_uint64 * 2)(pitch, 2 * SWIZZLED_COLUMNS),
        (ctypes.c_uint32 * 3)(SWIZZLED_COLUMNS, box_rows, boxes),
        (ctypes.c_uint32 * 3)(1, 1, 1),
        *(0, SWIZZLE_128, PROMOTE_256, 0),
        about=f"{shape} rows of {dtype}",
    )
    return TensorMap.from_buffer_copy(encoded)
