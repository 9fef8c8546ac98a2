"""A row, and the kernels that only these rows want."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from kernels.cuda import Program, Record

Row = tuple[str, float | str, str]  # what, how much or why not, unit

PROGRAM = Program("kernels.cu", Path(__file__).parent)


class _Nothing(Record):
    _fields_ = [("unused", ctypes.c_int32)]


def launch_empty(overlap: bool) -> None:
    """A kernel that only waits for the ones before it; with `overlap` it starts before."""
    PROGRAM.kernel("empty<0>", "cuda").launch((1, 1, 1), 128, _Nothing(), overlap=overlap)


def or_reason(what: str, unit: str, run: Callable[[], float]) -> Row:
    """A row; what this machine or torch cannot do says why in place of a number."""
    try:
        return what, run(), unit
    except (RuntimeError, OSError) as error:
        return what, str(error).splitlines()[0][:70], ""
