"""Planar rows decoded on their device by `gpu.cu`, for prompts: written once, at memory speed."""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from kernels.cuda import Kernel, Program, Record
from kernels.errors import KernelInputError
from kernels.formats import BlockFormat
from kernels.planar import MatrixRecord, PlanarTensor

PROGRAM = Program("dequantize/gpu.cu")
THREADS = 128
RESULTS = {torch.float32: "AsF32", torch.float16: "AsF16", torch.bfloat16: "AsBF16"}
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class DecodeRecord(Record):
    """DecodeRecord of gpu.cu."""

    _fields_ = (("matrix", MatrixRecord), ("out", ctypes.c_void_p), ("groups", ctypes.c_int64))


def decode_into(weight: PlanarTensor, out: Tensor, *, fresh: bool = False) -> None:
    """out = the weights, rounded to out's type.

    weight    [..., rows, columns] of any format
    out       contiguous [..., rows, columns] float32, float16 or bfloat16, same device
    fresh     the planes are the work of launches before this one: they are not read ahead of those

    float32 is bit for bit `kernels.dequantize`; the others round to nearest, ties to even.
    Does not wait for the GPU; allocates nothing.
    Raises KernelInputError when out does not fit.
    """
    _check(weight, out)
    groups = weight.rows * weight.columns // 32
    if weight.format.name in PLAIN:
        out.copy_(_as_plain(weight))
    elif groups:
        record = DecodeRecord(weight.record(), out.data_ptr(), groups)
        blocks = -(-groups // THREADS)
        kernel = _kernel(weight.format.name, out.dtype, out.device)
        kernel.launch((blocks, 1, 1), THREADS, record, overlap=not fresh)


def prepare_decode(known: BlockFormat, device: torch.device, dtype: torch.dtype) -> None:
    """Compiles what `decode_into` launches for weights of this format, and loads it."""
    if known.name not in PLAIN:
        _kernel(known.name, dtype, device)


@lru_cache
def _kernel(name: str, dtype: torch.dtype, device: torch.device) -> Kernel:
    return PROGRAM.kernel(f"decode_rows<{name}, {RESULTS[dtype]}>", device)


def _as_plain(weight: PlanarTensor) -> Tensor:
    values = weight.data.view(PLAIN[weight.format.name])
    begin = weight.first_row * weight.columns
    return values[begin:][: weight.rows * weight.columns].view(weight.shape)


def _check(weight: PlanarTensor, out: Tensor) -> None:
    if out.dtype not in RESULTS or out.shape != weight.shape or not out.is_contiguous():
        raise KernelInputError(
            f"out must be contiguous float32, float16 or bfloat16 {list(weight.shape)},"
            f" not {out.dtype} {list(out.shape)}"
        )
    if out.device != weight.device or out.data_ptr() % 16:
        raise KernelInputError(f"out must be on {weight.device}, at a multiple of 16 bytes")
