"""The small text files of /sys and /proc: a missing or odd file reads as nothing, never as an
error.
"""

import re
from pathlib import Path

MAX_CPU_NUMBER = 1 << 16


def cgroup_folders(sysfs: Path, proc: Path, controller: str) -> list[tuple[Path, int]]:
    """(folder, cgroup version) from this process's cgroup to the root, as mounted under
    /sys/fs/cgroup.
    """
    folders: list[tuple[Path, int]] = []
    for line in read_text(proc / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, version = sysfs / "fs/cgroup", 2
        elif controller in controllers.split(","):
            root, version = sysfs / "fs/cgroup" / controllers, 1
            if not root.is_dir():
                root = sysfs / "fs/cgroup" / controller
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        folders += [(root.joinpath(*parts[:n]), version) for n in range(len(parts), -1, -1)]
    return folders


def cpu_name(proc: Path) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", read_text(proc / "cpuinfo"), re.M)
    return found[1].strip() if found else "CPU of unknown name"


def meminfo(path: Path) -> dict[str, int]:
    """Bytes per field of a meminfo file, /proc's and a NUMA node's alike."""
    rows = re.findall(r"^(?:Node \d+ )?(\w+):\s+(\d{1,18}) kB$", read_text(path), re.M)
    return {name: int(kib) * 1024 for name, kib in rows}


def number_list(text: str) -> tuple[int, ...]:
    """ "0-3,8" -> 0, 1, 2, 3, 8."""
    numbers: list[int] = []
    for first, last in re.findall(r"(\d{1,6})(?:-(\d{1,6}))?", text):
        numbers += range(int(first), min(int(last or first), MAX_CPU_NUMBER) + 1)
    return tuple(numbers)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_int(path: Path) -> int | None:
    text = read_text(path).strip()
    return int(text) if re.fullmatch(r"-?\d{1,19}", text) else None


def pci_numa_node(bus_id: str, sysfs: Path) -> int | None:
    """NUMA node of a PCI device; NVML writes the domain with 8 digits, /sys with 4."""
    domain, _, rest = bus_id.lower().partition(":")
    node = read_int(sysfs / "bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node")
    return node if node is not None and node >= 0 else None
