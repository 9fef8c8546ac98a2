"""What GPUs are run with on this machine, each found or why not: for `hybrid doctor`."""

import ctypes
import warnings
from collections.abc import Sequence
from importlib import metadata

import torch

from kernels.capability import OLDEST_CAPABILITY
from kernels.cuda import driver_library, nvrtc
from kernels.errors import CudaCallFailed, CudaCompilerMissing, CudaDriverMissing
from placement.machines.machine import Device, DeviceKind

OLDEST = ".".join(map(str, OLDEST_CAPABILITY))


def gpu_facts(devices: Sequence[Device]) -> dict[str, str]:
    """The driver, NVRTC, Triton and what torch sees; capabilities of the GPUs among `devices`."""
    known = [f"{device.name} {_capability(device)}" for device in devices if device.is_gpu]
    return {
        "compute_capability": ", ".join(known) or "no GPU",
        "cuda_driver": _driver(),
        "nvrtc": _nvrtc(),
        "triton": _triton(),
        "torch_sees": _torch_sees(),
    }


def _capability(device: Device) -> str:
    """ "9.0", with what is wrong with it."""
    if device.compute_capability is None:
        return "none" if device.kind is DeviceKind.SIMULATED_GPU else "unknown"
    if tuple(map(int, device.compute_capability.split("."))) >= OLDEST_CAPABILITY:
        return device.compute_capability
    return f"{device.compute_capability} (too old: {OLDEST} is needed)"


def _driver() -> str:
    version = ctypes.c_int()
    try:
        library = driver_library.library()
        driver_library.check(
            library, "cuDriverGetVersion", library.cuDriverGetVersion(ctypes.byref(version))
        )
    except (CudaDriverMissing, CudaCallFailed) as error:
        return str(error)
    return f"libcuda.so.1, for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _nvrtc() -> str:
    try:
        found = nvrtc.find()
    except CudaCompilerMissing as error:
        return str(error)
    return f"{found.version}, sm_{found.capabilities[0]} to sm_{found.capabilities[-1]}"


def _triton() -> str:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "not installed: attention on GPUs needs it"


def _torch_sees() -> str:
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = f"{count} GPUs, built for {built}"
    return f"{found}: {str(said[0].message).splitlines()[0]}" if said and not count else found
