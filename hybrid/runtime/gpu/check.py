"""Whether a GPU can be used, asked before anything is read: each fault is one error with a remedy.

NVML   compute capability
torch  built for CUDA, sees the card, has code for it
NVRTC  is here and compiles for it
Triton is here
"""

import importlib
import warnings

import torch

from hybrid.errors import MachineError
from hybrid.runtime.gpu.failures import gpu_failure
from hybrid.runtime.memory import cuda_device
from kernels.cuda import driver, driver_library, nvrtc
from kernels.errors import (
    CudaCallFailed,
    CudaCompilerMissing,
    CudaDriverMissing,
    DeviceTooOld,
)
from placement.machines.machine import Device, DeviceKind

# Ours, torch's (AssertionError where it is built without CUDA), Triton's when it does not load.
FAULTS = (
    CudaCallFailed,
    CudaCompilerMissing,
    CudaDriverMissing,
    DeviceTooOld,
    RuntimeError,
    AssertionError,
    ImportError,
)


def check_gpu(device: Device, *, exact: bool = False) -> None:
    """Raises MachineError when kernels cannot run on a real GPU; others are passed over.

    exact   only torch's kernels will run: nothing is compiled

    Opens CUDA on it and runs one of torch's kernels there, which a first use would do in any case.
    """
    if device.kind is not DeviceKind.GPU:
        return
    try:
        _try(device)
        if not exact:
            _try_compilers(device)
    except FAULTS as error:
        failure = gpu_failure(error)
        if failure is None:
            raise
        raise MachineError(
            f"{device.name} ({device.description}) cannot be used: {failure.cause}",
            *failure.details,
            _versions(device),
            remedy=failure.remedies,
        ) from error


def _try(device: Device) -> None:
    if device.compute_capability is not None:
        major, minor = map(int, device.compute_capability.split("."))
        driver.check_capability(device.name, (major, minor))
    driver_library.library()
    with warnings.catch_warnings():
        # torch warns of what it then raises, or of GPUs that the plan does not use.
        warnings.simplefilter("ignore")
        torch.cuda.init()  # type: ignore[no-untyped-call]
        place = cuda_device(device)
        capability = torch.cuda.get_device_capability(place)
        driver.check_capability(device.name, capability)
        torch.zeros(1, device=place).add_(1).item()


def _try_compilers(device: Device) -> None:
    capability = torch.cuda.get_device_capability(cuda_device(device))
    nvrtc.find().architecture(capability)
    importlib.import_module("triton")


def _versions(device: Device) -> str:
    found = f"driver {device.driver or 'unknown'}, torch {torch.__version__}"
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return f"{found} ({cuda}), compute capability {device.compute_capability or 'unknown'}"
