"""Kernels on a GPU: a binary loaded into torch's context, launched on torch's current stream."""

import ctypes
from collections.abc import Sequence

import torch

from kernels.capability import OLDEST_CAPABILITY
from kernels.cuda import cache, nvrtc
from kernels.cuda.driver_library import (
    LaunchAttribute,
    LaunchConfig,
    call,
    context,
    device_attribute,
    library,
)
from kernels.cuda.sources import Source
from kernels.errors import DeviceTooOld, KernelInputError

CAPABILITY_MAJOR, CAPABILITY_MINOR, MOST_SHARED_BYTES = 75, 76, 97  # CUdevice_attribute
STATIC_SHARED_BYTES, DYNAMIC_SHARED_LIMIT = 1, 8  # CUfunction_attribute
PROGRAMMATIC_STREAM_SERIALIZATION = 6  # CUlaunchAttributeID


class DeviceKernel:
    """A function of a loaded binary, allowed all the shared memory that a block can have."""

    def __init__(self, name: str, function: ctypes.c_void_p, index: int) -> None:
        self._name = name
        self._function = function
        self._index = index
        self._overlaps = capability(index) >= (9, 0)
        self._record_bytes = _record_bytes(function)
        self._dynamic_bytes = device_attribute(index, MOST_SHARED_BYTES) - _static_bytes(function)
        call("cuFuncSetAttribute", function, DYNAMIC_SHARED_LIMIT, self._dynamic_bytes, about=name)

    def launch(
        self,
        grid: tuple[int, int, int],
        threads: int,
        record: ctypes.Structure,
        shared_bytes: int,
        overlap: bool,
    ) -> None:
        self._check(record, shared_bytes)
        overlapping = LaunchAttribute(id=PROGRAMMATIC_STREAM_SERIALIZATION, value=1)
        config = LaunchConfig(
            grid=grid,
            block=(threads, 1, 1),
            shared_bytes=shared_bytes,
            stream=torch.cuda.current_stream(self._index).cuda_stream,
            attributes=ctypes.pointer(overlapping),
            attribute_count=int(overlap and self._overlaps),
        )
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(record))
        about = f"{self._name}, grid {grid}, {threads} threads, {shared_bytes} bytes shared"
        with context(self._index):
            call(
                "cuLaunchKernelEx",
                ctypes.byref(config),
                self._function,
                arguments,
                None,
                about=about,
            )

    def _check(self, record: ctypes.Structure, shared_bytes: int) -> None:
        given = ctypes.sizeof(record)
        if self._record_bytes not in (None, given):
            raise KernelInputError(
                f"{self._name} takes a record of {self._record_bytes} bytes and was given {given}"
            )
        if shared_bytes > self._dynamic_bytes:
            raise KernelInputError(
                f"{self._name}: {shared_bytes} bytes of shared memory a block,"
                f" cuda:{self._index} has {self._dynamic_bytes}"
            )


def load(source: Source, names: Sequence[str], device: torch.device) -> dict[str, DeviceKernel]:
    """Every kernel by its name, compiled or from the cache.

    Raises CudaDriverMissing, DeviceTooOld, CudaCompilerMissing, KernelCompileFailed or
    CudaCallFailed.
    """
    index = device.index
    library()  # without a driver torch would be the first to complain, and not say what to do
    check_capability(device, capability(index))
    binary = nvrtc.build(source, names, capability(index), cache.usual_folder())
    module, loaded = ctypes.c_void_p(), {}
    with context(index):
        call("cuModuleLoadData", ctypes.byref(module), binary.cubin, about=source.path)
        for name, symbol in binary.symbols.items():
            function = ctypes.c_void_p()
            call(
                "cuModuleGetFunction",
                ctypes.byref(function),
                module,
                symbol.encode(),
                about=name,
            )
            loaded[name] = DeviceKernel(name, function, index)
    return loaded


def capability(index: int) -> tuple[int, int]:
    """(9, 0) for sm_90."""
    return (
        device_attribute(index, CAPABILITY_MAJOR),
        device_attribute(index, CAPABILITY_MINOR),
    )


def check_capability(device: torch.device | str, found: tuple[int, int]) -> None:
    """Raises DeviceTooOld below OLDEST_CAPABILITY."""
    if found < OLDEST_CAPABILITY:
        raise DeviceTooOld(
            f"{device} has compute capability {found[0]}.{found[1]}, the kernels need"
            f" {OLDEST_CAPABILITY[0]}.{OLDEST_CAPABILITY[1]} (Ampere, 2020) or newer;"
            " take another GPU with --device, or none with --device none"
        )


def _static_bytes(function: ctypes.c_void_p) -> int:
    value = ctypes.c_int()
    call("cuFuncGetAttribute", ctypes.byref(value), STATIC_SHARED_BYTES, function)
    return value.value


def _record_bytes(function: ctypes.c_void_p) -> int | None:
    """The size of the kernel's argument; None from a driver older than CUDA 12.4."""
    if not hasattr(library(), "cuFuncGetParamInfo"):
        return None
    offset, nbytes = ctypes.c_size_t(), ctypes.c_size_t()
    call(
        "cuFuncGetParamInfo",
        function,
        ctypes.c_size_t(0),
        ctypes.byref(offset),
        ctypes.byref(nbytes),
    )
    return nbytes.value
