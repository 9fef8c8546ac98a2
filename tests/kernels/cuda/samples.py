"""The kernels of samples.cu and their record."""

import ctypes
from pathlib import Path

import torch

from kernels.cuda import Program, Record

FOLDER = Path(__file__).parent
FILE = "samples.cu"
SAMPLES = Program(FILE, FOLDER)


class SampleRecord(Record):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("n", ctypes.c_int64),
    )


def sample(x: torch.Tensor, out: torch.Tensor, counter: torch.Tensor | None = None) -> SampleRecord:
    record = SampleRecord(
        x.data_ptr(), out.data_ptr(), 0 if counter is None else counter.data_ptr(), x.numel()
    )
    record.tensors = (x, out, counter)  # of which it holds addresses only
    return record
