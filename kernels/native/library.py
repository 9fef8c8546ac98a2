"""Finds, checks and loads the compiled library; its functions take ints: `data_ptr()`, sizes.

A converted array argument costs 3 us a call, an int 0.1 us. ctypes gives the interpreter lock back
during a call, so Python threads may share a call's rows (`parallel.py`).
"""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

import kernels.native
from kernels.codebooks import NAMES, codebook
from kernels.errors import NativeLibraryMissing
from kernels.formats import BY_NAME, FORMATS

FILE_NAME = "libhybrid_kernels.so"
ABI_VERSION = 2  # hybrid_abi_version() of the library.h that this file was written for
BUILD = (
    "build it with: cmake -S kernels/native -B build/native && cmake --build build/native"
    " (a source tree), or: pip install --force-reinstall --no-deps . (an installation)"
)

_POINTER, _SIZE, _ID = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32
_SIGNATURES = {
    "hybrid_block_weights": (_ID, [_ID]),
    "hybrid_block_bytes": (_ID, [_ID]),
    "hybrid_set_codebook": (_ID, [_ID, _POINTER, _SIZE]),
    "hybrid_dequantize": (
        None,
        [_ID, _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER],
    ),
    "hybrid_linear": (
        None,
        [_ID, _POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE],
    ),
}


@lru_cache
def library() -> ctypes.CDLL:
    """The loaded library, its functions typed and its codebooks filled; loaded once.

    Raises NativeLibraryMissing when no file is there, it does not load, or it was built for
    another `library.h`.
    """
    return load(find(tuple(kernels.native.__path__)))


def find(folders: tuple[str, ...]) -> Path:
    """The newest library in `folders`.

    A wheel has one folder; an editable installation two, pip's and the source tree, where a later
    build by hand leaves its own.
    """
    found = [path for folder in folders if (path := Path(folder) / FILE_NAME).is_file()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    raise NativeLibraryMissing(f"{FILE_NAME} is not in {' or '.join(folders)}; {BUILD}")


def load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryMissing(f"{path} does not load ({error}); {BUILD}") from error
    version = _abi_version(loaded)
    if version != ABI_VERSION:
        raise NativeLibraryMissing(
            f"{path} has interface {version}, this program needs {ABI_VERSION}; {BUILD}"
        )
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    _check_formats(loaded)
    _fill_codebooks(loaded)
    return loaded


def _abi_version(loaded: ctypes.CDLL) -> int | None:
    try:
        return int(loaded.hybrid_abi_version())
    except AttributeError:
        return None


def _check_formats(loaded: ctypes.CDLL) -> None:
    for known in FORMATS:
        weights = loaded.hybrid_block_weights(known.ggml_id)
        nbytes = loaded.hybrid_block_bytes(known.ggml_id)
        assert (weights, nbytes) == (known.block_weights, known.block_bytes), known


def _fill_codebooks(loaded: ctypes.CDLL) -> None:
    for name in (*NAMES, "IQ1_M"):
        values = codebook("IQ1_S" if name == "IQ1_M" else name, torch.device("cpu"))
        filled = loaded.hybrid_set_codebook(
            BY_NAME[name].ggml_id, values.data_ptr(), values.numel()
        )
        assert filled, f"the library's {name} codebook is not {tuple(values.shape)}"
