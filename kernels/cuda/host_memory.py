"""CPU memory that GPUs read and write themselves, and numbers in it that a stream waits for."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cuda.driver_library import call, context
from kernels.errors import CudaCallFailed

PORTABLE, MAPPED, READ_ONLY = 1, 2, 8  # flags of cuMemHostRegister
WAIT_UNTIL_AT_LEAST = 0  # CU_STREAM_WAIT_VALUE_GEQ: (int32)(value - wanted) >= 0


def register(
    address: int, nbytes: int, device: torch.device | int = 0, flags: int = PORTABLE | MAPPED
) -> None:
    """Pins pages and maps them for every GPU; takes as long as the pages need to be touched.

    Raises CudaCallFailed, for memory that cannot be pinned or is pinned already.
    """
    with context(_index(device)):
        call("cuMemHostRegister_v2", address, nbytes, flags, about=f"{nbytes} bytes of CPU memory")


def unregister(address: int, device: torch.device | int = 0) -> None:
    with context(_index(device)):
        call("cuMemHostUnregister", address)


def device_pointer(address: int, device: torch.device | int = 0) -> int:
    """The address under which the GPU finds registered memory."""
    found = ctypes.c_void_p()
    with context(_index(device)):
        call("cuMemHostGetDevicePointer_v2", ctypes.byref(found), address, 0)
    return found.value or 0


def mapped_tensor(memory: Tensor, device: torch.device) -> Tensor:
    """The same bytes as a tensor of the GPU, whose kernels read and write them over its bus.

    memory   uint8 [bytes] on the CPU, contiguous, registered through this very GPU
    returns  uint8 [bytes] on the device, which keeps `memory` alive

    Raises CudaCallFailed where torch would give a copy: of memory that another GPU registered,
    with some drivers.
    """
    pointer = device_pointer(memory.data_ptr(), device)
    mapped = torch.as_tensor(_GpuBytes(memory, pointer), device=device)
    # torch asks the driver whose the bytes are, and copies what is another GPU's
    if mapped.data_ptr() != pointer:
        raise CudaCallFailed(f"{memory.nbytes} bytes of CPU memory are registered, not by {device}")
    return mapped


def wait_value(pointer: int, wanted: int, device: torch.device | int) -> None:
    """torch's current stream goes on when the uint32 there, read by the GPU, is `wanted` or more.

    Counts around 2^32: a number up to 2^31 behind is less. Never by itself when it never comes.
    """
    with context(_index(device)):
        stream = torch.cuda.current_stream(device).cuda_stream
        call("cuStreamWaitValue32_v2", stream, pointer, wanted, WAIT_UNTIL_AT_LEAST)


def write_value(pointer: int, value: int, device: torch.device | int) -> None:
    """torch's current stream writes the uint32 when all before it is done and can be seen."""
    with context(_index(device)):
        call(
            "cuStreamWriteValue32_v2",
            torch.cuda.current_stream(device).cuda_stream,
            pointer,
            value,
            0,
        )


@dataclass(frozen=True, slots=True)
class _GpuBytes:
    """Bytes at a GPU's address, as torch takes them from other libraries."""

    owner: Tensor
    pointer: int

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "shape": tuple(self.owner.shape),
            "typestr": "|u1",
            "data": (self.pointer, False),
            "version": 3,
        }


def _index(device: torch.device | int) -> int:
    if isinstance(device, int):
        return device
    return torch.cuda.current_device() if device.index is None else device.index
