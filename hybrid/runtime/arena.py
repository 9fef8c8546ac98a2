"""The host arena: one stretch of host memory (`host_pages.py`) that is handed out as tensors.

Every stretch has one NUMA policy: a plan's host weights take one arena, and under `shard` one more
for each node's parts of the routed experts.
"""

import mmap
from collections.abc import Sequence

import torch

from hybrid.runtime.host_pages import HostPages
from hybrid.runtime.numa_calls import NumaPolicy

ALIGNMENT_BYTES = 64  # a cache line; every tensor starts on one
PAGED_BYTES = 1 << 20  # tensors from this size on start on a page, where pinning can begin


class HostArena(HostPages):
    """Anonymous memory of a fixed size, filled once, freed when its last tensor is gone.

    taken   (address, bytes) of each tensor, in order
    """

    def __init__(
        self,
        nbytes: int,
        policy: NumaPolicy = NumaPolicy.INTERLEAVE,
        nodes: Sequence[int] = (),
    ) -> None:
        super().__init__(nbytes, policy, nodes)
        self.taken: list[tuple[int, int]] = []
        self._taken_bytes = 0

    def take(self, nbytes: int) -> torch.Tensor:
        """The next `nbytes` bytes as a uint8 tensor; its address is a multiple of ALIGNMENT_BYTES,
        and begins a page from PAGED_BYTES on.
        """
        first = self._taken_bytes
        if nbytes >= PAGED_BYTES:
            first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
        assert first + nbytes <= self.nbytes, "the arena was sized for less"
        view = torch.frombuffer(
            self._memory, dtype=torch.uint8, count=nbytes, offset=self._first + first
        )
        self._taken_bytes = first + aligned(nbytes)
        self.taken.append((self.address + first, nbytes))
        return view


def aligned(nbytes: int) -> int:
    """nbytes rounded up to whole cache lines."""
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def room_bytes(nbytes: int) -> int:
    """What a tensor takes of an arena at most."""
    return aligned(nbytes) + (mmap.PAGESIZE if nbytes >= PAGED_BYTES else 0)
