"""libcuda.so.1, the library of NVIDIA's driver: its functions, its records, its errors.

Torch has made each GPU's primary context; everything here works in that one.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from kernels.errors import CudaCallFailed, CudaDriverMissing

OLDEST = "525 or newer for a torch of CUDA 12, 580 or newer for one of CUDA 13"
UPDATE = f"install NVIDIA's driver {OLDEST}, or run with --device none"

# What the user can do, by the name of the error; others are told by name and text alone.
REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "nvidia-smi lists who holds the GPU's memory",
    "CUDA_ERROR_NO_DEVICE": "nvidia-smi lists the GPUs, CUDA_VISIBLE_DEVICES may hide them",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": UPDATE,
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": UPDATE,
    "CUDA_ERROR_INVALID_IMAGE": UPDATE,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver was updated under way: restart the machine",
    "CUDA_ERROR_SYSTEM_NOT_READY": "start nvidia-fabricmanager, or restart the machine",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "another process holds the GPU alone: nvidia-smi lists it",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "a kernel's fault: this process cannot use the GPU any more",
    "CUDA_ERROR_LAUNCH_FAILED": "a kernel's fault: this process cannot use the GPU any more",
    "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED": "the memory is pinned already",
}

POINTER, INT, SIZE, TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
UINT, U64 = ctypes.c_uint, ctypes.c_uint64
SIGNATURES: dict[str, tuple[object, ...]] = {
    "cuInit": (UINT,),
    "cuDriverGetVersion": (POINTER,),
    "cuDeviceGet": (POINTER, INT),
    "cuDeviceGetAttribute": (POINTER, INT, INT),
    "cuDevicePrimaryCtxRetain": (POINTER, INT),
    "cuCtxPushCurrent_v2": (POINTER,),
    "cuCtxPopCurrent_v2": (POINTER,),
    "cuModuleLoadData": (POINTER, TEXT),
    "cuModuleGetFunction": (POINTER, POINTER, TEXT),
    "cuFuncGetAttribute": (POINTER, INT, POINTER),
    "cuFuncSetAttribute": (POINTER, INT, INT),
    "cuLaunchKernelEx": (POINTER, POINTER, POINTER, POINTER),
    "cuTensorMapEncodeTiled": (POINTER, INT, UINT, *(POINTER,) * 5, *(INT,) * 4),
    "cuStreamWaitValue32_v2": (POINTER, U64, UINT, UINT),
    "cuStreamWriteValue32_v2": (POINTER, U64, UINT, UINT),
    "cuMemHostRegister_v2": (POINTER, SIZE, UINT),
    "cuMemHostUnregister": (POINTER,),
    "cuMemHostGetDevicePointer_v2": (POINTER, POINTER, UINT),
    "cuGetErrorName": (INT, POINTER),
    "cuGetErrorString": (INT, POINTER),
}


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute with a value that is an int."""

    _fields_ = (("id", INT), ("padding", INT), ("value", INT), ("rest", INT * 15))


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", UINT * 3),
        ("block", UINT * 3),
        ("shared_bytes", UINT),
        ("stream", POINTER),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("attribute_count", UINT),
    )


@lru_cache
def library() -> ctypes.CDLL:
    """The driver, initialised. Raises CudaDriverMissing, or CudaCallFailed without a GPU."""
    return open_driver("libcuda.so.1")


def open_driver(name: str) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(name)
    except OSError as error:
        raise CudaDriverMissing(f"NVIDIA's driver is not here ({error}); {UPDATE}") from error
    for function, arguments in SIGNATURES.items():
        if not hasattr(loaded, function):
            raise CudaDriverMissing(f"NVIDIA's driver ({name}) lacks {function}; {UPDATE}")
        getattr(loaded, function).argtypes = arguments
    check(loaded, "cuInit", loaded.cuInit(0))
    return loaded


def call(function: str, *arguments: object, about: str = "") -> None:
    """Raises CudaCallFailed with the error's name and text, `about` and what to do."""
    loaded = library()
    check(loaded, function, getattr(loaded, function)(*arguments), about)


def check(loaded: ctypes.CDLL, function: str, status: int, about: str = "") -> None:
    if status == 0:
        return
    name, text = TEXT(), TEXT()
    loaded.cuGetErrorName(status, ctypes.byref(name))
    loaded.cuGetErrorString(status, ctypes.byref(text))
    known = (name.value or b"unknown error").decode()
    reason = (text.value or b"no text").decode()
    remedy = f"; {REMEDIES[known]}" if known in REMEDIES else ""
    of = f" of {about}" if about else ""
    raise CudaCallFailed(f"{function}{of} failed: {known} ({status}), {reason}{remedy}")


@lru_cache
def device_handle(index: int) -> int:
    handle = INT()
    call("cuDeviceGet", ctypes.byref(handle), index, about=f"cuda:{index}")
    return handle.value


@lru_cache
def device_attribute(index: int, attribute: int) -> int:
    value = INT()
    call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device_handle(index))
    return value.value


@contextmanager
def context(index: int) -> Iterator[None]:
    """The primary context of cuda:index is current inside, whatever was before is after."""
    call("cuCtxPushCurrent_v2", _primary_context(index))
    try:
        yield
    finally:
        call("cuCtxPopCurrent_v2", ctypes.byref(POINTER()))


@lru_cache
def _primary_context(index: int) -> int | None:
    found = POINTER()
    call(
        "cuDevicePrimaryCtxRetain",
        ctypes.byref(found),
        device_handle(index),
        about=f"cuda:{index}",
    )
    return found.value
