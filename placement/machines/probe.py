"""Fill a `Machine` from this computer: psutil, cgroups, /sys, NVML, torch; each source is one
function.

A source that is missing becomes a finding, never a failure: a machine without libnuma, without an
NVIDIA driver or without /sys is still a machine.
"""

import importlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from placement.machines.machine import CPU, Device, DeviceKind, Finding, Machine, NumaNode
from placement.machines.nvml import Gpus, nvml_gpus
from placement.machines.sysfiles import (
    cgroup_folders,
    cpu_name,
    meminfo,
    number_list,
    read_int,
    read_text,
)
from placement.units import format_bytes


@dataclass(frozen=True, slots=True)
class _Memory:
    total_bytes: int
    free_bytes: int
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
    nodes = numa_nodes(sysfs, proc)
    gpus = _simulated(simulate) if simulate else nvml_gpus(_import("pynvml"), visible, sysfs)
    name, for_cuda = cpu_name(proc), torch_is_for_cuda()
    host = Device(
        CPU, DeviceKind.CPU, memory.total_bytes, memory.free_bytes, name, cuda_torch=for_cuda
    )
    node_text = ", ".join(map(_node_text, nodes)) or "none listed"
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


def numa_nodes(sysfs: Path, proc: Path = Path("/proc")) -> tuple[NumaNode, ...]:
    """All NUMA nodes, also such without CPUs or without memory; empty where /sys lists none."""
    found = re.search(r"^Mems_allowed_list:\s*(\S+)$", read_text(proc / "self/status"), re.M)
    nodes = []
    for folder in sorted((sysfs / "devices/system/node").glob("node[0-9]*")):
        if not folder.name[4:].isdecimal():
            continue
        index = int(folder.name[4:])
        fields = meminfo(folder / "meminfo")
        cpus = number_list(read_text(folder / "cpulist"))
        cached = max(fields.get("FilePages", 0) - fields.get("Shmem", 0), 0)
        free = fields.get("MemFree", 0) + cached
        allowed = found is None or index in number_list(found[1])
        nodes.append(NumaNode(index, cpus, fields.get("MemTotal", 0), free, allowed))
    return tuple(sorted(nodes, key=lambda node: node.index))


def _node_text(node: NumaNode) -> str:
    """ "node1: 16 CPUs, 62.9 GiB"."""
    text = f"node{node.index}: {len(node.cpus)} CPUs, {format_bytes(node.total_bytes)}"
    return text if node.allowed else f"{text} (not for this process)"


def _numa_library() -> Finding:
    if _import("numa") is None:
        value = "not usable: needed for memory policies on unusual processors only"
        return Finding("NUMA library", value, "import numa (py-libnuma needs libnuma.so)")
    return Finding("NUMA library", "usable", "import numa")


def torch_is_for_cuda() -> bool:
    """By the file of its version: importing torch takes a second, and planning needs it not."""
    try:
        found = importlib.util.find_spec("torch")
    except ValueError:  # something else stands in for it
        return False
    folders = (found.submodule_search_locations if found else None) or ()
    texts = [read_text(Path(folder) / "version.py") for folder in folders]
    return any(re.search(r"^cuda\b.*= ['\"]", text, re.M) for text in texts)


def _simulated(sizes: Mapping[str, int]) -> Gpus:
    devices = tuple(
        Device(
            name,
            DeviceKind.SIMULATED_GPU,
            nbytes,
            nbytes,
            "simulated: reference kernels on the CPU",
        )
        for name, nbytes in sizes.items()
    )
    findings = tuple(
        Finding(f"{gpu.name} (simulated)", format_bytes(gpu.total_bytes), "--simulate")
        for gpu in devices
    )
    return Gpus(devices, (), findings)


def _import(name: str) -> ModuleType | None:
    """A library that may be missing, or fail while it is imported (numa without libnuma.so)."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError, NameError, RuntimeError):
        return None
