"""Launches `gpu.cu`: blocks into planes by one kernel, which needs no memory beside both."""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from kernels.cuda import Program, Record
from kernels.formats import FORMATS, BlockFormat
from kernels.planar import reference

PROGRAM = Program("planar/gpu.cu")
THREADS, BLOCKS = 256, 64
KERNEL = f"split_blocks<{THREADS}, {BLOCKS}>"
MOST_PLANES = 5
MOST_BLOCK_BYTES = max(known.block_bytes for known in FORMATS)
# kBookBytes of formats.h: what products of one token hold beside x in a block's shared memory.
BOOK_BYTES = {
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"), 40 << 10),
    "IQ3_S": 32 << 10,
    **dict.fromkeys(("IQ1_S", "IQ1_M"), 8 << 10),
}


class SplitRecord(Record):
    """SplitRecord of gpu.cu."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("planes", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("total", ctypes.c_int64),
        ("block_bytes", ctypes.c_int32),
        ("plane_count", ctypes.c_int32),
        ("widths", ctypes.c_int32 * MOST_PLANES),
        ("source", ctypes.c_uint16 * (8 * MOST_BLOCK_BYTES)),
    )


def split_into(blocks: Tensor, known: BlockFormat, data: Tensor, first: int) -> None:
    """`reference.split_into` of contiguous blocks.

    blocks   uint8 [count * block_bytes]
    data     uint8, planes of all blocks of the weight, on the same device
    first    number of the first block among them
    """
    count = blocks.numel() // known.block_bytes
    if not count:
        return
    widths = reference.plane_bytes(known.name)
    record = SplitRecord(
        blocks=blocks.data_ptr(),
        planes=data.data_ptr(),
        count=count,
        first=first,
        total=data.numel() // known.block_bytes,
        block_bytes=known.block_bytes,
        plane_count=len(widths),
        widths=widths,
        source=_bits_in_blocks(known.name),
    )
    kernel = PROGRAM.kernel(KERNEL, data.device)
    kernel.launch((-(-count // BLOCKS), 1, 1), THREADS, record, overlap=False)


@lru_cache
def _bits_in_blocks(name: str) -> "ctypes.Array[ctypes.c_uint16]":
    """For each bit of the planes' bytes its number in the block."""
    numbers = torch.argsort(reference.bit_sources(name)).tolist()
    return (ctypes.c_uint16 * (8 * MOST_BLOCK_BYTES))(*numbers)
