"""Launches `gpu.cu`; a CPU tensor's launch is emulated."""

import ctypes

import torch
from torch import Tensor

from kernels.cuda import Program, Record

_PROGRAM = Program("stamp/gpu.cu")
_THREADS, _MOST_BLOCKS = 32, 64


class _StampRecord(Record):
    _fields_ = [
        ("time", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("usage", ctypes.c_void_p),
        ("count", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    ]


def stamp(times: Tensor, slot: int, chosen: Tensor | None, usage: Tensor | None) -> None:
    """See `kernels.stamp.stamp`."""
    _launch(times.data_ptr() + slot * times.itemsize, chosen, usage, times.device, 1)


def count(chosen: Tensor, usage: Tensor) -> None:
    """See `kernels.stamp.count`."""
    blocks = min(-(-chosen.numel() // _THREADS), _MOST_BLOCKS)
    _launch(None, chosen, usage, usage.device, blocks)


def _launch(
    time: int | None,
    chosen: Tensor | None,
    usage: Tensor | None,
    device: torch.device,
    blocks: int,
) -> None:
    record = _StampRecord(time)
    number = "int32_t"
    if chosen is not None and usage is not None:
        record.chosen, record.usage = chosen.data_ptr(), usage.data_ptr()
        record.count = chosen.numel()
        number = "int64_t" if chosen.dtype == torch.int64 else "int32_t"
    kernel = _PROGRAM.kernel(f"stamp<{_THREADS}, {number}>", device)
    kernel.launch((max(blocks, 1), 1, 1), _THREADS, record)
