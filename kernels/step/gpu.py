"""Launches `gpu.cu`."""

import ctypes

from torch import Tensor

from kernels.cuda import Program, Record
from kernels.step.records import ArgmaxScratch, Greatest, StepInput

PROGRAM = Program("step/gpu.cu")
THREADS = 256
COPIED_EACH = 2  # values of a thread: few, so that reads over the bus come from many blocks
COMPARED_EACH = 4


class BeginRecord(Record):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("hidden", "positions", "rows", "seen")),
        *((f"{name}_to", ctypes.c_void_p) for name in ("hidden", "positions", "rows", "seen")),
        ("values", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
    ]


class ArgmaxRecord(Record):
    _fields_ = [
        ("logits", ctypes.c_void_p),
        ("best", ctypes.c_void_p),
        ("counters", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("host_index", ctypes.c_void_p),
        ("host_value", ctypes.c_void_p),
        ("vocabulary", ctypes.c_int32),
    ]


def begin_step(source: StepInput, target: StepInput) -> None:
    """See `kernels.step.begin_step`."""
    record = BeginRecord(values=source.hidden.numel(), tokens=len(source.hidden))
    for name, given, wanted in source.pairs(target):
        setattr(record, name, given.data_ptr())
        setattr(record, f"{name}_to", wanted.data_ptr())
    blocks = max(1, -(-source.hidden.numel() // (THREADS * COPIED_EACH)))
    kernel = PROGRAM.kernel(f"begin_step<{THREADS}, {COPIED_EACH}>", target.hidden.device)
    kernel.launch((blocks, 1, 1), THREADS, record)


def argmax_parts(vocabulary: int) -> int:
    """Blocks that share the logits of a token."""
    return -(-vocabulary // (THREADS * COMPARED_EACH))


def argmax(logits: Tensor, found: Greatest, scratch: ArgmaxScratch, host: Greatest | None) -> None:
    """See `kernels.step.argmax`."""
    tokens, vocabulary = logits.shape
    record = ArgmaxRecord(
        logits=logits.data_ptr(),
        best=scratch.best.data_ptr(),
        counters=scratch.counters.data_ptr(),
        index=found.index.data_ptr(),
        value=found.value.data_ptr(),
        host_index=host.index.data_ptr() if host else None,
        host_value=host.value.data_ptr() if host else None,
        vocabulary=vocabulary,
    )
    kernel = PROGRAM.kernel(f"argmax<{THREADS}, {COMPARED_EACH}>", logits.device)
    kernel.launch((argmax_parts(vocabulary), tokens, 1), THREADS, record)
