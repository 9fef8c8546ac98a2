"""Checks and loads the compiled library; its functions take ints: `data_ptr()`, sizes.

A call of one int costs 0.33 us, converting one array alone 2.8 us (ADR 2 has the commands).
"""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

import kernels.native
from kernels.codebooks import NAMES, codebook
from kernels.errors import NativeLibraryMissing
from kernels.formats import BY_NAME, FORMATS
from kernels.native.file import BUILD, find, open_library
from kernels.native.records import RECORDS
from kernels.native.signatures import SIGNATURES

ABI_VERSION = 7  # hybrid_abi_version() of the library.h that this file was written for


@lru_cache
def library() -> ctypes.CDLL:
    """The loaded library, its functions typed and its codebooks filled; loaded once.

    Raises NativeLibraryMissing when no file is there, it does not load, or it was built from other
    sources: another interface, a function, record, block or codebook that is not this program's.
    """
    return load(find(tuple(kernels.native.__path__)))


def load(path: Path) -> ctypes.CDLL:
    loaded = open_library(path)
    fault = _interface_fault(loaded) or _format_fault(loaded) or _codebook_fault(loaded)
    if fault:
        raise NativeLibraryMissing(f"{path} {fault}; {BUILD}")
    return loaded


def _interface_fault(loaded: ctypes.CDLL) -> str | None:
    """What the library lacks of `library.h`, if anything; its functions are typed on the way."""
    version = loaded.hybrid_abi_version() if hasattr(loaded, "hybrid_abi_version") else None
    if version != ABI_VERSION:
        return f"has interface {version}, this program needs {ABI_VERSION}"
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(loaded, name, None)
        if function is None:
            return f"lacks {name}, so it was built from other sources"
        function.restype, function.argtypes = result, arguments
    return _record_fault(loaded)


def _record_fault(loaded: ctypes.CDLL) -> str | None:
    for which, record in enumerate(RECORDS):
        nbytes = loaded.hybrid_record_bytes(which)
        if nbytes != ctypes.sizeof(record):
            return (
                f"has {record.__name__} records of {nbytes} bytes, this program needs "
                f"{ctypes.sizeof(record)}"
            )
    return None


def _format_fault(loaded: ctypes.CDLL) -> str | None:
    for known in FORMATS:
        weights = loaded.hybrid_block_weights(known.ggml_id)
        nbytes = loaded.hybrid_block_bytes(known.ggml_id)
        if (weights, nbytes) != (known.block_weights, known.block_bytes):
            return (
                f"has {known.name} blocks of {weights} weights in {nbytes} bytes, this program "
                f"needs {known.block_weights} in {known.block_bytes}"
            )
    return None


def _codebook_fault(loaded: ctypes.CDLL) -> str | None:
    """The format whose codebook the library does not take, if any; the others are filled."""
    for name in (*NAMES, "IQ1_M"):
        values = codebook("IQ1_S" if name == "IQ1_M" else name, torch.device("cpu"))
        filled = loaded.hybrid_set_codebook(
            BY_NAME[name].ggml_id, values.data_ptr(), values.numel()
        )
        if not filled:
            return f"does not take the {name} codebook of {values.numel()} bytes"
    return None
