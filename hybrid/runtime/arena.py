"""The host arena: one stretch of anonymous memory for everything that a plan puts into RAM.

    mmap (no page touched) -> huge pages asked for -> NUMA policy set -> first touch by the
    loader's reads

The order is the point: Linux decides a page's node and size at its first touch, so the policy has
to stand before it. Interleaving spreads pages over all nodes, which gives every node's memory
channels to every expert; it is the default on machines with more than one node. What was asked for
and what came of it (`pages_per_node`) can be compared.

Refused: memory-mapping the file as the default. Page-cache pages are small, land on the node of
whichever thread faults first, and can be dropped behind our back in the middle of a token.
"""

import ctypes
import mmap
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch

HUGE_PAGE_BYTES = 2 << 20
ALIGNMENT_BYTES = 64  # a cache line; every tensor starts on one


class NumaPolicy(str, Enum):
    INTERLEAVE = "interleave"  # pages in turn over all nodes
    LOCAL = "local"  # the node of the thread that touches first
    OFF = "off"  # whatever the process was started with (numactl)


@dataclass(frozen=True, slots=True)
class PagePlacement:
    """What the kernel did: pages of the arena per NUMA node, and bytes in huge pages."""

    pages_per_node: dict[int, int]
    huge_page_bytes: int

    def shares(self) -> str:
        """ "node0 49.8 %, node1 50.2 %"."""
        total = sum(self.pages_per_node.values())
        shares = sorted(self.pages_per_node.items())
        return ", ".join(f"node{node} {100 * pages / total:.1f} %" for node, pages in shares)


class HostArena:
    """Anonymous memory of a fixed size, filled once, freed when its last tensor is gone.

    nbytes    size; rounded up to whole huge pages
    policy    NUMA policy, set before the first touch
    notes     what could not be done as asked, one phrase each (no libnuma, no huge pages)
    """

    def __init__(self, nbytes: int, policy: NumaPolicy = NumaPolicy.INTERLEAVE) -> None:
        self.nbytes = max(1, -(-nbytes // HUGE_PAGE_BYTES)) * HUGE_PAGE_BYTES
        self.notes: list[str] = []
        # One huge page more than needed, so that the part in use can start on a huge page's border.
        # Private: shared anonymous memory is a file in the kernel's eyes and gets no huge pages.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, self.nbytes + HUGE_PAGE_BYTES, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._first = -start % HUGE_PAGE_BYTES
        self.address = start + self._first
        self._ask_for_huge_pages()
        if policy is not NumaPolicy.OFF:
            self._set_policy(policy)
        self._taken_bytes = 0

    def take(self, nbytes: int) -> torch.Tensor:
        """The next `nbytes` bytes as a uint8 tensor, aligned to ALIGNMENT_BYTES."""
        assert self._taken_bytes + nbytes <= self.nbytes, "the arena was sized for less"
        view = torch.frombuffer(
            self._memory, dtype=torch.uint8, count=nbytes, offset=self._first + self._taken_bytes
        )
        self._taken_bytes += aligned(nbytes)
        return view

    def placement(self) -> PagePlacement | None:
        """Where the touched pages lie, read from the kernel; None where /proc does not tell."""
        return read_placement(self.address, self.address + self.nbytes)

    def _ask_for_huge_pages(self) -> None:
        advice = getattr(mmap, "MADV_HUGEPAGE", None)
        if advice is None:
            self.notes.append("no huge pages on this system")
            return
        try:
            self._memory.madvise(advice)
        except OSError as error:
            self.notes.append(f"no huge pages ({error.strerror})")

    def _set_policy(self, policy: NumaPolicy) -> None:
        nodes = online_nodes()
        if len(nodes) < 2:
            return
        try:
            import numa  # noqa: PLC0415  fails at import where libnuma.so is missing
        except (ImportError, AttributeError, OSError, TypeError):
            self.notes.append(f"{policy.value} not set: libnuma is missing (install libnuma1)")
            return
        library = numa.LIBNUMA
        where, size = ctypes.c_void_p(self.address), ctypes.c_size_t(self.nbytes)
        if policy is NumaPolicy.INTERLEAVE:
            mask = library.numa_parse_nodestring(",".join(map(str, nodes)).encode())
            library.numa_interleave_memory(where, size, mask)
        else:
            library.numa_setlocal_memory(where, size)


def aligned(nbytes: int) -> int:
    """nbytes rounded up to whole cache lines."""
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def online_nodes(sysfs: Path = Path("/sys")) -> list[int]:
    """Numbers of the NUMA nodes that have memory; [0] where the kernel does not say."""
    try:
        text = (sysfs / "devices/system/node/has_memory").read_text().strip()
    except OSError:
        return [0]
    nodes: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        nodes += range(int(first), int(last or first) + 1)
    return nodes


def read_placement(start: int, end: int, proc: Path = Path("/proc")) -> PagePlacement | None:
    """Pages per node of the mappings between two addresses, and bytes of them in huge pages."""
    try:
        numa_maps = (proc / "self/numa_maps").read_text()
        smaps = (proc / "self/smaps").read_text()
    except OSError:
        return None
    inside, huge_kib = _mappings(smaps, start, end)
    pages: dict[int, int] = {}
    for line in numa_maps.splitlines():
        if int(line.split(maxsplit=1)[0], 16) in inside:
            for node, count in re.findall(r"\bN(\d+)=(\d+)", line):
                pages[int(node)] = pages.get(int(node), 0) + int(count)
    return PagePlacement(pages, huge_kib << 10)


def _mappings(smaps: str, start: int, end: int) -> tuple[set[int], int]:
    """First addresses of the mappings that overlap start .. end, and their huge pages in KiB."""
    firsts: set[int] = set()
    huge_kib, overlaps = 0, False
    for line in smaps.splitlines():
        if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            first, last = int(mapping[1], 16), int(mapping[2], 16)
            overlaps = first < end and last > start
            if overlaps:
                firsts.add(first)
        elif overlaps and line.startswith("AnonHugePages:"):
            huge_kib += int(line.split()[1])
    return firsts, huge_kib
