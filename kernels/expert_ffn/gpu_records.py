"""Records of `gpu.cu`, field by field."""

import ctypes

from kernels.cuda import Record
from kernels.planar import MatrixRecord


class HalvesRecord(Record):
    _fields_ = [
        ("gate", MatrixRecord),
        ("up", MatrixRecord),
        ("stride_rows", ctypes.c_int64),
        ("hidden", ctypes.c_void_p),
        ("rounded", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    ]


class HiddenRecord(Record):
    _fields_ = [
        ("routed", HalvesRecord),
        ("shared", HalvesRecord),
        *((name, ctypes.c_void_p) for name in ("x", "norm", "chosen")),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("tokens", "used", "first_expert", "experts")),
        ("unused", ctypes.c_int32),
    ]


class DownPart(Record):
    _fields_ = [
        ("weight", MatrixRecord),
        ("stride_rows", ctypes.c_int64),
        ("hidden", ctypes.c_void_p),
    ]


class DownRecord(Record):
    _fields_ = [
        ("routed", DownPart),
        ("shared", DownPart),
        *((name, ctypes.c_void_p) for name in ("chosen", "share", "h")),
        *((name, ctypes.c_int32) for name in ("rows", "tokens", "used", "first_expert")),
        *((name, ctypes.c_int32) for name in ("experts", "unused")),
    ]
