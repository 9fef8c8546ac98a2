"""A source file, its kernels, and what a launch is given: the same for a GPU and the emulator."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from kernels.cuda import driver, emulator
from kernels.cuda.sources import KERNELS, Source
from kernels.errors import KernelInputError

MOST_BLOCKS = (2**31 - 1, 65535, 65535)  # of a grid, per axis
MOST_THREADS = 1024
MOST_SHARED_BYTES = 227 << 10  # dynamic, of a block, on the largest GPUs; the driver knows its own


class Record(ctypes.Structure):
    """A kernel's only argument: `_fields_` as in its struct, tensors as `data_ptr()`."""


class Launcher(Protocol):
    """What `driver` and `emulator` make of a kernel."""

    def launch(
        self,
        grid: tuple[int, int, int],
        threads: int,
        record: Record,
        shared_bytes: int,
        overlap: bool,
    ) -> None: ...


class Kernel:
    """One instance of a kernel, loaded for one device."""

    def __init__(self, name: str, launcher: Launcher) -> None:
        self.name = name
        self._launcher = launcher

    def launch(
        self,
        grid: tuple[int, int, int],
        threads: int,
        record: Record,
        shared_bytes: int = 0,
        overlap: bool = True,
    ) -> None:
        """Runs it on torch's current stream of the device; does not wait. Emulated: runs it here.

        grid          blocks along x, y, z, each at least 1
        threads       of a block, 1 to 1024, along x
        record        copied before this returns; what its pointers name has to outlive the run
        shared_bytes  dynamic shared memory of a block
        overlap       on sm_90 and newer it may start before its predecessor has ended: then the
                      kernel calls wait_for_previous() before it touches what others write

        Raises KernelInputError for a launch that no GPU takes, CudaCallFailed when the driver
        refuses it, EmulationFailed when the emulator finds a fault.
        """
        fits = all(1 <= blocks <= most for blocks, most in zip(grid, MOST_BLOCKS, strict=True))
        if not fits:
            raise KernelInputError(f"{self.name}: a grid of {grid} blocks, at most {MOST_BLOCKS}")
        if not 1 <= threads <= MOST_THREADS:
            raise KernelInputError(f"{self.name}: {threads} threads a block, 1 to {MOST_THREADS}")
        if not 0 <= shared_bytes <= MOST_SHARED_BYTES:
            raise KernelInputError(
                f"{self.name}: {shared_bytes} bytes of shared memory a block,"
                f" 0 to {MOST_SHARED_BYTES}"
            )
        self._launcher.launch(grid, threads, record, shared_bytes, overlap)


class Program:
    """A .cu file; its kernels are compiled when first asked for.

    path    inside `folder`
    folder  usually kernels/; includes are looked for in it and in kernels/
    """

    def __init__(self, path: str, folder: Path = KERNELS) -> None:
        self.source = Source(path, (folder, KERNELS) if folder != KERNELS else (KERNELS,))
        self._kernels: dict[tuple[str, torch.device], Kernel] = {}

    def kernel(self, name: str, device: torch.device | str) -> Kernel:
        """`name` as C++ inside namespace hybrid: "matvec<1, Q8_0>". Not while a graph is captured.

        Raises CudaDriverMissing, CudaCompilerMissing, DeviceTooOld or KernelCompileFailed.
        """
        return self.compile([name], device)[name]

    def compile(self, names: Sequence[str], device: torch.device | str) -> dict[str, Kernel]:
        """Several kernels by name; those not loaded yet are compiled in one pass."""
        place = _with_index(torch.device(device))
        missing = [name for name in dict.fromkeys(names) if (name, place) not in self._kernels]
        if missing:
            load = emulator.load if place.type == "cpu" else driver.load
            for name, launcher in load(self.source, missing, place).items():
                self._kernels[name, place] = Kernel(name, launcher)
        return {name: self._kernels[name, place] for name in names}


def _with_index(device: torch.device) -> torch.device:
    """cuda is cuda:0 or wherever torch stands, so that one GPU has one name."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
