"""The host arena: one stretch of host memory (`host_pages.py`) that is handed out as tensors.

Every stretch has one NUMA policy: a plan's host weights take one arena, and under `shard` one more
for each node's parts of the routed experts.
"""

import torch

from hybrid.runtime.host_pages import HostPages

ALIGNMENT_BYTES = 64  # a cache line; every tensor starts on one


class HostArena(HostPages):
    """Anonymous memory of a fixed size, filled once, freed when its last tensor is gone."""

    _taken_bytes = 0

    def take(self, nbytes: int) -> torch.Tensor:
        """The next `nbytes` bytes as a uint8 tensor, aligned to ALIGNMENT_BYTES."""
        assert self._taken_bytes + nbytes <= self.nbytes, "the arena was sized for less"
        view = torch.frombuffer(
            self._memory, dtype=torch.uint8, count=nbytes, offset=self._first + self._taken_bytes
        )
        self._taken_bytes += aligned(nbytes)
        return view


def aligned(nbytes: int) -> int:
    """nbytes rounded up to whole cache lines."""
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
