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
    """Boxes of `box_rows` rows and 64 columns in the swizzle of 128 bytes; zeros beyond the end.

    rows   [count, columns] float16 or bfloat16 on a GPU, a row contiguous, rows and their pitch
           multiples of 16 bytes

    Raises KernelInputError where they are not, CudaCallFailed when the driver refuses.
    """
    pitch = rows.stride(0) * rows.itemsize
    fits = rows.dtype in TYPES and rows.stride(1) == 1 and 0 < box_rows <= 256
    if not fits or pitch % BULK_ALIGNMENT or rows.data_ptr() % BULK_ALIGNMENT:
        raise KernelInputError(
            f"boxes of {box_rows} rows of {rows.dtype}, strides {rows.stride()}: the copy engine"
            f" takes 16-bit rows at multiples of {BULK_ALIGNMENT} bytes, 256 at most"
        )
    return _encoded(rows.data_ptr(), rows.dtype, tuple(rows.shape), pitch, box_rows)


@lru_cache(maxsize=1024)
def _encoded(
    address: int, dtype: torch.dtype, shape: tuple[int, int], pitch: int, box_rows: int
) -> TensorMap:
    room = (ctypes.c_ubyte * (ctypes.sizeof(TensorMap) + ALIGNMENT))()
    begin = ctypes.addressof(room)
    encoded = TensorMap.from_address(begin + -begin % ALIGNMENT)
    call(
        "cuTensorMapEncodeTiled",
        ctypes.addressof(encoded),
        TYPES[dtype],
        2,
        address,
        (ctypes.c_uint64 * 2)(shape[1], shape[0]),
        (ctypes.c_uint64 * 1)(pitch),
        (ctypes.c_uint32 * 2)(SWIZZLED_COLUMNS, box_rows),
        (ctypes.c_uint32 * 2)(1, 1),
        *(0, SWIZZLE_128, PROMOTE_256, 0),
        about=f"{shape} rows of {dtype}",
    )
    return TensorMap.from_buffer_copy(encoded)
