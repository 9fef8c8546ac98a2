"""Launches `gpu.cu`; a CPU tensor's launch is emulated."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.cuda import Program, Record
from kernels.native.records import Mailbox as MailboxRecord

if TYPE_CHECKING:
    from kernels.mailbox import Mailbox

_PROGRAM = Program("mailbox/gpu.cu")
_POSTING = 256  # threads of a block, a stretch of x each
_RECEIVING = 256  # threads of a block, four values each
_LOOKING = 128  # more threads: kLookingThreads of mailbox.h


class _Posting(Record):
    _fields_ = [
        ("mailbox", MailboxRecord),
        ("x", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("share", ctypes.c_void_p),
        ("counter", ctypes.c_void_p),
        ("tokens", ctypes.c_int32),
    ]


class _Receipt(Record):
    _fields_ = [("mailbox", MailboxRecord), ("h", ctypes.c_void_p), ("tokens", ctypes.c_int32)]


def publish(mailbox: Mailbox, x: Tensor, chosen: Tensor, share: Tensor) -> None:
    record = _Posting(
        mailbox.record,
        x.data_ptr(),
        chosen.data_ptr(),
        share.data_ptr(),
        _counter(x.device).data_ptr(),
        x.shape[0],
    )
    kernel = _PROGRAM.kernel(f"post<{_POSTING}>", x.device)
    kernel.launch((-(-mailbox.width // _POSTING), 1, 1), _POSTING, record, overlap=True)


def receive(mailbox: Mailbox, h: Tensor) -> None:
    blocks = -(-h.numel() // (4 * _RECEIVING))
    kernel = _PROGRAM.kernel(f"receive<{_RECEIVING}>", h.device)
    record = _Receipt(mailbox.record, h.data_ptr(), h.shape[0])
    kernel.launch((blocks, 1, 1), _RECEIVING + _LOOKING, record, overlap=True)


@lru_cache
def _counter(device: torch.device) -> Tensor:
    return torch.zeros(1, dtype=torch.int32, device=device)
