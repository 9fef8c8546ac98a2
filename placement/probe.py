"""Fill a `Machine` from this computer: psutil, cgroups, /sys and NVML; each source is one function.

A source that is missing becomes a finding, never a failure: a machine without libnuma, without an
NVIDIA driver or without /sys is still a machine.
"""

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from placement.errors import ProbeError
from placement.machine import CPU, Device, DeviceKind, Finding, Link, Machine, NumaNode
from placement.sysfiles import (
    cgroup_folders,
    cpu_name,
    meminfo,
    number_list,
    pci_numa_node,
    read_int,
    read_text,
)
from placement.units import format_bytes


@dataclass(frozen=True, slots=True)
class _Memory:
    total_bytes: int
    free_bytes: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Gpus:
    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]


def probe_machine(
    *,
    simulate: Mapping[str, int] | None = None,
    visible: str | None = None,
    sysfs: Path = Path("/sys"),
    proc: Path = Path("/proc"),
) -> Machine:
    """This computer as it is now.

    simulate   bytes per simulated GPU; real GPUs are then left out
    visible    value of CUDA_VISIBLE_DEVICES, None when it is not set
    Raises ProbeError only when `visible` names a GPU that NVML does not know.
    """
    memory = _read_memory(sysfs, proc)
    cpus = usable_cpus(sysfs, proc)
    cores = physical_cores(sysfs, cpus.cpus)
    nodes = numa_nodes(sysfs)
    gpus = _simulated(simulate) if simulate else _nvml_gpus(visible, sysfs)
    host = Device(CPU, DeviceKind.CPU, memory.total_bytes, memory.free_bytes, cpu_name(proc))
    node_text = ", ".join(f"node{n.index}: {len(n.cpus)} CPUs" for n in nodes) or "none listed"
    findings = (
        Finding("CPU", host.description, f"{proc}/cpuinfo"),
        *memory.findings,
        *cpus.findings,
        Finding("physical cores", str(cores), f"{sysfs}/devices/system/cpu"),
        Finding("NUMA nodes", node_text, f"{sysfs}/devices/system/node"),
        _numa_library(),
        *gpus.findings,
    )
    return Machine((host, *gpus.devices), gpus.links, nodes, cores, cpus.count, findings)


def _read_memory(sysfs: Path, proc: Path) -> _Memory:
    psutil = _import("psutil")
    if psutil is not None:
        memory = psutil.virtual_memory()
        total, free, source = int(memory.total), int(memory.available), "psutil"
    else:
        fields = meminfo(proc / "meminfo")
        total, free = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
        source = f"{proc}/meminfo, psutil is missing"
    findings = [
        Finding("RAM", format_bytes(total), source),
        Finding("RAM available", format_bytes(free), source),
    ]
    for limit, used, path in _memory_limits(sysfs, proc):
        # an outer group that is nearly full leaves less than an inner one's smaller limit says
        free = min(free, max(limit - used, 0))
        if limit < total:
            total = limit
            findings.append(Finding("RAM limit of the cgroup", format_bytes(limit), str(path)))
    return _Memory(total, free, tuple(findings))


def _memory_limits(sysfs: Path, proc: Path) -> list[tuple[int, int, Path]]:
    """(limit, used but for reclaimable cache, file) of each cgroup of this process, to the root."""
    limits = []
    for folder, version in cgroup_folders(sysfs, proc, "memory"):
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        limit, used = read_int(folder / names[0]), read_int(folder / names[1])
        if limit is not None:
            cached = re.search(rf"^{names[2]} (\d+)$", read_text(folder / "memory.stat"), re.M)
            reclaimable = int(cached[1]) if cached else 0
            limits.append((limit, max((used or 0) - reclaimable, 0), folder / names[0]))
    return limits


@dataclass(frozen=True, slots=True)
class UsableCpus:
    """CPUs this process may run on, and how many at a time."""

    cpus: frozenset[int]
    count: int
    findings: tuple[Finding, ...]


def usable_cpus(sysfs: Path, proc: Path) -> UsableCpus:
    """From the affinity mask, and the cgroup's quota of CPU time rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cpus, source = frozenset(os.sched_getaffinity(0)), "sched_getaffinity"
    else:
        cpus, source = frozenset(range(os.cpu_count() or 1)), "os.cpu_count"
    findings = [Finding("CPUs in the affinity mask", str(len(cpus)), source)]
    count = len(cpus)
    for folder, version in cgroup_folders(sysfs, proc, "cpu"):
        if version == 2:
            path = folder / "cpu.max"
            quota, _, period = read_text(path).strip().partition(" ")
        else:
            path = folder / "cpu.cfs_quota_us"
            quota, period = read_text(path).strip(), read_text(folder / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            cpu_time = int(quota) / int(period)
            count = max(min(count, -(-int(quota) // int(period))), 1)
            findings.append(Finding("CPU time of the cgroup", f"{cpu_time:.1f} CPUs", str(path)))
    return UsableCpus(cpus, count, tuple(findings))


def physical_cores(sysfs: Path, cpus: frozenset[int]) -> int:
    """Cores under the CPUs, hyper-threads counted once; the CPUs where /sys is silent."""
    siblings = set()
    for cpu in cpus:
        topology = sysfs / "devices/system/cpu" / f"cpu{cpu}" / "topology"
        text = read_text(topology / "core_cpus_list")
        text = text or read_text(topology / "thread_siblings_list")
        siblings.add(text.strip() or str(cpu))
    return max(len(siblings), 1)


def numa_nodes(sysfs: Path) -> tuple[NumaNode, ...]:
    """NUMA nodes that have memory or CPUs; empty where /sys lists none."""
    nodes = []
    for folder in sorted((sysfs / "devices/system/node").glob("node[0-9]*")):
        if not folder.name[4:].isdecimal():
            continue
        fields = meminfo(folder / "meminfo")
        cpus = number_list(read_text(folder / "cpulist"))
        total, free = fields.get("MemTotal", 0), fields.get("MemFree", 0)
        nodes.append(NumaNode(int(folder.name[4:]), cpus, total, free))
    return tuple(sorted(nodes, key=lambda node: node.index))


def _numa_library() -> Finding:
    if _import("numa") is None:
        value = "not usable: memory policy is left to the system"
        return Finding("NUMA library", value, "import numa (py-libnuma needs libnuma.so)")
    return Finding("NUMA library", "usable", "import numa")


def _simulated(sizes: Mapping[str, int]) -> _Gpus:
    devices = tuple(
        Device(name, DeviceKind.SIMULATED_GPU, nbytes, nbytes, "reference kernels on the CPU")
        for name, nbytes in sizes.items()
    )
    findings = tuple(
        Finding(f"{gpu.name} (simulated)", format_bytes(gpu.total_bytes), "--simulate")
        for gpu in devices
    )
    return _Gpus(devices, (), findings)


def _nvml_gpus(visible: str | None, sysfs: Path) -> _Gpus:
    nvml: Any = _import("pynvml")
    if nvml is None:
        return _Gpus((), (), (Finding("GPUs", "none: nvidia-ml-py is missing", "import pynvml"),))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _Gpus((), (), (Finding("GPUs", f"no NVIDIA driver ({error})", "NVML"),))
    try:
        return _read_gpus(nvml, visible, sysfs)
    except nvml.NVMLError as error:
        return _Gpus((), (), (Finding("GPUs", f"the driver failed: {error}", "NVML"),))
    finally:
        nvml.nvmlShutdown()


def _read_gpus(nvml: Any, visible: str | None, sysfs: Path) -> _Gpus:
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    chosen = _visible_indices(visible, uuids)
    devices, links = [], []
    for number, index in enumerate(chosen):
        handle, name = handles[index], f"CUDA{number}"
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        devices.append(
            Device(
                name,
                DeviceKind.GPU,
                int(memory.total),
                int(memory.free),
                _text(nvml.nvmlDeviceGetName(handle)),
                pci_numa_node(_text(nvml.nvmlDeviceGetPciInfo(handle).busId), sysfs),
                compute_capability=f"{major}.{minor}",
                driver=driver,
            )
        )
        links.append(_link(nvml, handle, name))
    listed = ", ".join(f"{gpu.name}={gpu.description}" for gpu in devices) or "none"
    order = "NVML counts by PCI bus; CUDA does so too with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    if visible is not None:
        order += f"; CUDA_VISIBLE_DEVICES={visible} applied to that order"
    findings = (
        Finding("NVIDIA driver", driver, "NVML"),
        Finding("GPUs", listed, "NVML"),
        Finding("GPU order", order, "NVML"),
    )
    return _Gpus(tuple(devices), tuple(links), findings)


def _visible_indices(visible: str | None, uuids: list[str]) -> list[int]:
    """NVML indices of CUDA0, CUDA1, ... As CUDA does it: the list ends at the first entry that is
    no GPU.
    """
    if visible is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in (entry.strip() for entry in visible.split(",")):
        matches = [i for i, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        if entry.isdecimal() and int(entry) < len(uuids):
            matches = [int(entry)]
        elif entry.isdecimal() and not chosen:
            raise ProbeError(
                f"CUDA_VISIBLE_DEVICES names GPU {entry}, there are {len(uuids)}",
                remedy=f"use 0 to {len(uuids) - 1}, or unset it" if uuids else "unset it",
            )
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen += matches
    return chosen


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


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _import(name: str) -> ModuleType | None:
    """A library that may be missing, or fail while it is imported (numa without libnuma.so)."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError, NameError, RuntimeError):
        return None
