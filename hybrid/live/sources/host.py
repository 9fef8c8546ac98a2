"""The host and this process: load of cores, RAM by NUMA node, page faults, huge pages, disc.

psutil                        load of each core that is online
/sys/devices/system/cpu       which ones are
/sys/devices/system/node      RAM by node
/proc/meminfo                 RAM in use
/proc/self/stat, statm, io    major faults, resident memory, bytes read from discs
/proc/self/smaps_rollup       huge pages; walks all page tables, so asked seldom
"""

import importlib
import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

from hybrid.live.snapshot import HostView
from hybrid.live.sources.readings import HostReading, NodeReading
from placement.machines.sysfiles import meminfo, number_list, read_text

HUGE_EVERY_S, HUGE_MOST_SHARE = 5.0, 0.005  # of the time, for walks of page tables
_MAJOR_FAULTS = 9  # field of /proc/self/stat, counted from 0 after the program's name
_HUGE_FIELDS = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Private_Hugetlb")


def load_psutil() -> Any | None:
    """psutil, None where it is missing."""
    try:
        return importlib.import_module("psutil")
    except (ImportError, OSError):
        return None


class HostSource:
    """Rates are between one reading and the next; the first has none.

    nodes    CPUs of each NUMA node; empty where the system lists none
    cpus     those that this process may use
    psutil   the module, None where it is missing
    """

    def __init__(
        self,
        nodes: Mapping[int, Sequence[int]],
        cpus: Sequence[int],
        psutil: ModuleType | Any | None,
        *,
        sysfs: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._nodes = nodes or {0: cpus}
        self._listed = bool(nodes)
        self._cpus = frozenset(cpus)
        self._psutil = psutil
        self._sysfs, self._proc, self._clock = sysfs, proc, clock
        self._times: dict[int, tuple[float, float]] = {}
        self._counts: dict[str, int] = {}
        self._read_at: float | None = None
        self._huge_bytes: int | None = None
        self._huge_due = float("-inf")

    def read(self) -> HostReading:
        now = self._clock()
        passed_s = None if self._read_at is None else now - self._read_at
        self._read_at = now
        loads = self._loads()
        faults = self._major_faults()
        discs = self._field("io", "read_bytes")
        view = HostView(
            resident_bytes=self._resident_bytes(),
            major_faults=faults,
            major_faults_s=self._rate("faults", faults, passed_s),
            disc_read_bytes_s=self._rate("discs", discs, passed_s),
            huge_bytes=self._huge(now),
            load_share=sum(loads.values()) / len(loads) if loads else None,
        )
        nodes = {node: self._node(node, cpus, loads) for node, cpus in self._nodes.items()}
        return HostReading(view, nodes, _used(meminfo(self._proc / "meminfo")))

    def _node(self, node: int, cpus: Sequence[int], loads: Mapping[int, float]) -> NodeReading:
        load = tuple(loads[cpu] for cpu in sorted(cpus) if cpu in loads)
        if not self._listed:
            fields = meminfo(self._proc / "meminfo")
            return NodeReading(fields.get("MemTotal"), _used(fields), load)
        fields = meminfo(self._sysfs / "devices/system/node" / f"node{node}" / "meminfo")
        return NodeReading(fields.get("MemTotal"), _used(fields), load)

    def _loads(self) -> dict[int, float]:
        """Share of each usable core's time since the last reading that was not idle."""
        if self._psutil is None:
            return {}
        try:
            cores = self._psutil.cpu_times(percpu=True)
        except (OSError, ValueError, RuntimeError, self._psutil.Error):
            return {}
        before, self._times = self._times, {}
        for cpu, times in self._numbered(cores):
            if cpu in self._cpus:
                idle = times.idle + getattr(times, "iowait", 0.0)
                # guests' time is in user and nice already
                beside = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
                self._times[cpu] = (sum(times) - beside, idle)
        loads = {}
        for cpu, (total, idle) in self._times.items():
            if cpu in before and total > before[cpu][0]:
                idle_share = (idle - before[cpu][1]) / (total - before[cpu][0])
                loads[cpu] = min(max(1.0 - idle_share, 0.0), 1.0)
        return loads

    def _numbered(self, cores: Sequence[Any]) -> list[tuple[int, Any]]:
        """psutil lists the CPUs that are online, in order, without their numbers. Nothing where
        their count is another one: a container may show other CPUs than the system has.
        """
        online = number_list(read_text(self._sysfs / "devices/system/cpu/online"))
        return list(zip(online, cores, strict=True)) if len(online) == len(cores) else []

    def _major_faults(self) -> int | None:
        fields = read_text(self._proc / "self/stat").rpartition(")")[2].split()
        return int(fields[_MAJOR_FAULTS]) if len(fields) > _MAJOR_FAULTS else None

    def _resident_bytes(self) -> int | None:
        fields = read_text(self._proc / "self/statm").split()
        return int(fields[1]) * mmap.PAGESIZE if len(fields) > 1 else None

    def _field(self, name: str, field: str) -> int | None:
        found = re.search(rf"^{field}:\s+(\d+)", read_text(self._proc / "self" / name), re.M)
        return int(found[1]) if found else None

    def _huge(self, now: float) -> int | None:
        if now >= self._huge_due:
            text = read_text(self._proc / "self/smaps_rollup")
            found = re.findall(rf"^(?:{'|'.join(_HUGE_FIELDS)}):\s+(\d+) kB$", text, re.M)
            self._huge_bytes = sum(map(int, found)) << 10 if found else None
            took_s = self._clock() - now
            self._huge_due = now + max(HUGE_EVERY_S, took_s / HUGE_MOST_SHARE)
        return self._huge_bytes

    def _rate(self, name: str, count: int | None, passed_s: float | None) -> float | None:
        before = self._counts.pop(name, None)
        if count is None:
            return None
        self._counts[name] = count
        if before is None or not passed_s:
            return None
        return max(count - before, 0) / passed_s


def _used(fields: Mapping[str, int]) -> int | None:
    """Of a meminfo file: what is neither free nor a file's page that can be dropped."""
    if "MemTotal" not in fields or "MemFree" not in fields:
        return None
    if "MemAvailable" in fields:
        return fields["MemTotal"] - fields["MemAvailable"]
    cached = max(fields.get("FilePages", 0) - fields.get("Shmem", 0), 0)
    return fields["MemTotal"] - fields["MemFree"] - cached
