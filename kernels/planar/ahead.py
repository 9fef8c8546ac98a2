"""Records of `ahead.h`: weights that a kernel calls into the second cache for the ones behind it."""

import ctypes
from collections.abc import Sequence

from kernels.errors import KernelInputError
from kernels.planar import PlanarTensor, reference

MOST_AHEAD, MOST_PLANES = 4, 5


class AheadRecord(ctypes.Structure):
    """`Ahead` of ahead.h."""

    _fields_ = (
        ("data", ctypes.c_void_p * MOST_AHEAD),
        ("nbytes", ctypes.c_int64 * MOST_AHEAD),
    )


class PlanesRecord(ctypes.Structure):
    """`Planes` of ahead.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        ("first_row", ctypes.c_int64),
        ("per_row", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("bytes", ctypes.c_int32 * MOST_PLANES),
        ("unused", ctypes.c_int32),
    )


def ahead_record(tensors: Sequence[PlanarTensor]) -> AheadRecord:
    """Up to MOST_AHEAD whole tensors; of one that is cut out of another nothing is called."""
    if len(tensors) > MOST_AHEAD:
        raise KernelInputError(f"{len(tensors)} tensors ahead; there is room for {MOST_AHEAD}")
    record = AheadRecord()
    for i, tensor in enumerate(tensors):
        if tensor.rows == tensor.total_rows:
            record.data[i], record.nbytes[i] = tensor.data.data_ptr(), tensor.nbytes
    return record


def planes_record(tensor: PlanarTensor) -> PlanesRecord:
    known, per_row = tensor.format, tensor.columns // tensor.format.block_weights
    widths = reference.plane_bytes(known.name)
    return PlanesRecord(
        tensor.data.data_ptr(),
        tensor.total_rows * per_row,
        tensor.first_row,
        per_row,
        len(widths),
        (ctypes.c_int32 * MOST_PLANES)(*widths),
    )
