"""NVIDIA GPUs through NVML, the driver's own library: one that fails is left out and named, the
others stay.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placement.errors import ProbeError
from placement.machines.machine import Device, DeviceKind, Finding, Link
from placement.machines.sysfiles import pci_numa_node

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs, their links, and what there is to say about them."""

    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]


def nvml_gpus(nvml: Any, visible: str | None, sysfs: Path) -> Gpus:
    """The GPUs that CUDA would see, named in CUDA's order by PCI bus.

    nvml      the module pynvml, None when it is missing
    visible   value of CUDA_VISIBLE_DEVICES; GPUs that it does not select are not asked
    Raises ProbeError when `visible` begins with a number that no GPU has.
    """
    if nvml is None:
        return Gpus((), (), (Finding("GPUs", "none: nvidia-ml-py is missing", "import pynvml"),))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus((), (), (Finding("GPUs", f"no NVIDIA driver ({error})", "NVML"),))
    try:
        return _read_gpus(nvml, visible, sysfs)
    except nvml.NVMLError as error:
        return Gpus((), (), (Finding("GPUs", f"the driver failed: {error}", "NVML"),))
    finally:
        with suppress(nvml.NVMLError):  # what was read stays true
            nvml.nvmlShutdown()


def _read_gpus(nvml: Any, visible: str | None, sysfs: Path) -> Gpus:
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    failed: list[Finding] = []

    def uuid_of(index: int) -> str | None:
        try:
            return _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        except nvml.NVMLError:
            return None

    devices, links = [], []
    chosen = _visible_indices(visible, int(nvml.nvmlDeviceGetCount()), uuid_of)
    for number, index in enumerate(chosen):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu = _device(nvml, handle, f"CUDA{number}", driver, sysfs)
        except nvml.NVMLError as error:
            failed.append(Finding(f"CUDA{number}", f"left out, the driver failed: {error}", "NVML"))
            continue
        devices.append(gpu)
        links.append(_link(nvml, handle, gpu.name))
    findings = [
        Finding("NVIDIA driver", driver, "NVML"),
        Finding("GPUs", ", ".join(f"{g.name}={g.description}" for g in devices) or "none", "NVML"),
        *failed,
        *_mig_findings(visible),
        Finding("GPU order", _order(visible), "NVML"),
    ]
    return Gpus(tuple(devices), tuple(links), tuple(findings))


def _visible_indices(
    visible: str | None, count: int, uuid_of: Callable[[int], str | None]
) -> list[int]:
    """NVML indices of CUDA0, CUDA1, ... As CUDA does it: the list ends at the first entry that is
    no GPU.
    """
    if visible is None:
        return list(range(count))
    chosen: list[int] = []
    for entry in (entry.strip() for entry in visible.split(",")):
        matches = []
        if entry.startswith("GPU-"):
            matches = [i for i in range(count) if (uuid_of(i) or "").startswith(entry)]
        elif entry.isdecimal() and int(entry) < count:
            matches = [int(entry)]
        elif entry.isdecimal() and not chosen:
            raise ProbeError(
                f"{VISIBLE} names GPU {entry}, there are {count}",
                remedy=f"use 0 to {count - 1}, or unset it" if count else "unset it",
            )
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen += matches
    return chosen


def _device(nvml: Any, handle: Any, name: str, driver: str, sysfs: Path) -> Device:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Device(
        name,
        DeviceKind.GPU,
        int(memory.total),
        int(memory.free),
        _text(nvml.nvmlDeviceGetName(handle)),
        pci_numa_node(_text(nvml.nvmlDeviceGetPciInfo(handle).busId), sysfs),
        compute_capability=f"{major}.{minor}",
        driver=driver,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
    )


def _link(nvml: Any, handle: Any, name: str) -> Link:
    queries = (
        nvml.nvmlDeviceGetCurrPcieLinkGeneration,
        nvml.nvmlDeviceGetCurrPcieLinkWidth,
        nvml.nvmlDeviceGetMaxPcieLinkGeneration,
        nvml.nvmlDeviceGetMaxPcieLinkWidth,
    )
    values: list[int | None] = []
    for query in queries:
        try:
            values.append(int(query(handle)))
        except nvml.NVMLError:  # not supported on SXM boards and in some virtual machines
            values.append(None)
    return Link(name, *values)


def _mig_findings(visible: str | None) -> list[Finding]:
    """A part of a GPU has bytes of its own, which the whole GPU's figures would overstate."""
    parts = [entry.strip() for entry in (visible or "").split(",") if "MIG-" in entry]
    return [
        Finding(part, "left out with what follows it: parts of a GPU (MIG) are not read", VISIBLE)
        for part in parts[:1]
    ]


def _order(visible: str | None) -> str:
    order = "NVML counts by PCI bus; CUDA does so too with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    return order if visible is None else f"{order}; {VISIBLE}={visible} applied to that order"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
