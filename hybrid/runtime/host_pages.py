"""Anonymous memory with huge pages and a NUMA policy, and what the kernel made of both. No torch.

    mmap (no page touched) -> huge pages asked for -> NUMA policy set -> first touch by its user

The order is the point: Linux decides a page's node and size at its first touch, so the policy has
to stand before it. What was asked for and what came of it can be compared afterwards.

Refused: memory-mapping the file as the default. Page-cache pages are small, land on the node of
whichever thread faults first, and can be dropped behind our back in the middle of a token.
"""

import ctypes
import mmap
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.runtime.numa_calls import NumaPolicy, pages_by_node, set_policy
from placement.machines.sysfiles import read_text
from placement.units import format_bytes

HUGE_PAGE_BYTES = 2 << 20
PAGES_IN_A_HUGE_PAGE = HUGE_PAGE_BYTES // mmap.PAGESIZE
SHARE_TOLERANCE = 0.05  # of a node's even share, beside one huge page
HUGE_PAGE_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True)
class PagePlacement:
    """What the kernel did: touched pages per NUMA node, and bytes in huge pages."""

    pages_per_node: dict[int, int]
    huge_page_bytes: int

    @property
    def touched_bytes(self) -> int:
        return sum(self.pages_per_node.values()) * mmap.PAGESIZE

    def shares(self) -> str:
        """ "node0 49.8 %, node1 50.2 %"."""
        total = sum(self.pages_per_node.values())
        shares = sorted(self.pages_per_node.items())
        return ", ".join(f"node{node} {100 * pages / total:.1f} %" for node, pages in shares)


class PinnableMemory(mmap.mmap):
    """Memory that says when it is about to go: whoever pinned its pages has to let go of them."""

    unpin: Callable[[], None] | None = None

    def __del__(self) -> None:
        if self.unpin is not None:
            self.unpin()


class HostPages:
    """Bytes of a fixed number, freed when nothing refers to them.

    nbytes   size; rounded up to whole huge pages
    policy   set before the first touch
    nodes    INTERLEAVE: the nodes to take turns over, nothing is set for less than two;
             SHARD: the nodes these pages are bound to
    notes    what could not be done as asked, one phrase each

    Raises OSError when the system has no such memory.
    """

    def __init__(
        self,
        nbytes: int,
        policy: NumaPolicy = NumaPolicy.INTERLEAVE,
        nodes: Sequence[int] = (),
    ) -> None:
        self.nbytes = max(1, -(-nbytes // HUGE_PAGE_BYTES)) * HUGE_PAGE_BYTES
        self.policy = policy
        self.nodes = tuple(nodes)
        self.notes: list[str] = []
        # One huge page more than needed, so that the part in use can start on a huge page's border.
        # Private: shared anonymous memory is a file in the kernel's eyes and gets no huge pages.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = PinnableMemory(-1, self.nbytes + HUGE_PAGE_BYTES, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._first = -start % HUGE_PAGE_BYTES
        self.address = start + self._first
        self._ask_for_huge_pages()
        if len(self.nodes) > 1 or policy is NumaPolicy.SHARD:
            self._set_policy()

    def placement(self) -> PagePlacement | None:
        """Where the touched pages lie; None where the kernel does not tell."""
        read = read_placement(self.address, self.address + self.nbytes)
        if read is not None and read.touched_bytes <= self.nbytes:
            return read
        # Neighbours were counted too. move_pages counts these pages alone, but none that the
        # kernel's own balancing has taken a look at, so it comes second.
        try:
            pages = pages_by_node(self.address, self.nbytes)
        except OSError:
            return read
        return PagePlacement(pages, min(read.huge_page_bytes, self.nbytes) if read else 0)

    def faults(self, found: PagePlacement) -> list[str]:
        """Where `found` differs from what was asked, one phrase each."""
        faults = []
        pages, total = found.pages_per_node, sum(found.pages_per_node.values())
        if self.policy is NumaPolicy.SHARD:
            away = total - sum(pages.get(node, 0) for node in self.nodes)
            if away:
                names = ", ".join(f"node{node}" for node in self.nodes)
                faults.append(f"{away} of {total} pages are not on {names}: {found.shares()}")
        elif self.policy is NumaPolicy.INTERLEAVE and len(self.nodes) > 1:
            even = total / len(self.nodes)
            allowed = max(SHARE_TOLERANCE * even, PAGES_IN_A_HUGE_PAGE)
            if any(abs(pages.get(node, 0) - even) > allowed for node in self.nodes):
                faults.append(f"pages are not spread evenly: {found.shares()}")
        return faults + self._huge_page_faults(found)

    def view(self) -> memoryview:
        """All of it, writable."""
        return memoryview(self._memory)[self._first : self._first + self.nbytes]

    def before_freeing(self, unpin: Callable[[], None]) -> None:
        """`unpin` is called once, when nothing refers to the bytes any more."""
        self._memory.unpin = unpin

    def touch(self) -> None:
        """Write one value everywhere, as a first use would."""
        ctypes.memset(self.address, 1, self.nbytes)

    def _huge_page_faults(self, found: PagePlacement) -> list[str]:
        if self.policy is NumaPolicy.OFF and len(self.nodes) > 1:
            return []  # the kernel's balancing hides huge pages while it looks at them
        short = found.touched_bytes - found.huge_page_bytes
        if short <= max(found.touched_bytes // 10, HUGE_PAGE_BYTES):
            return []
        switch = read_text(HUGE_PAGE_SWITCH).strip() or "missing"
        huge, touched = format_bytes(found.huge_page_bytes), format_bytes(found.touched_bytes)
        return [f"{huge} of {touched} in huge pages ({HUGE_PAGE_SWITCH}: {switch})"]

    def _ask_for_huge_pages(self) -> None:
        advice = getattr(mmap, "MADV_HUGEPAGE", None)
        if advice is None:
            self.notes.append("no huge pages on this system")
            return
        try:
            self._memory.madvise(advice)
        except OSError as error:
            self.notes.append(f"no huge pages ({error.strerror})")

    def _set_policy(self) -> None:
        try:
            set_policy(self.address, self.nbytes, self.policy, self.nodes)
        except OSError as error:
            nodes = ", ".join(f"node{node}" for node in self.nodes)
            self.notes.append(f"{self.policy.value} over {nodes} not set: {error.strerror}")


def read_placement(start: int, end: int, proc: Path = Path("/proc")) -> PagePlacement | None:
    """Pages per node of the mappings between two addresses, and bytes of them in huge pages.

    A mapping that only overlaps the range counts whole: the kernel joins neighbours.
    """
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
