"""Weights that lie in RAM: one arena of huge pages, filled anew for every group."""

from functools import cache

import psutil
import torch
from torch import Tensor

from hybrid.runtime.arena import HostArena, aligned
from hybrid.runtime.host_pages import HUGE_PAGE_BYTES, NumaPolicy
from kernels.blocks import BlockTensor
from kernels.dequantize.cases import like_weights
from kernels.formats import BlockFormat
from kernels.native import pool

READ_BYTES = 128 << 20  # at a time, to see what the RAM gives
PATTERN_BYTES = 4 << 20  # blocks that are repeated: addresses differ, and they decide


class RamMemory:
    """Huge pages, spread over the nodes as a model's experts are.

    Exits with the sizes when there is not RAM enough for nbytes.
    """

    def __init__(self, nbytes: int) -> None:
        free_bytes = psutil.virtual_memory().available
        if nbytes > 0.9 * free_bytes:
            raise SystemExit(
                f"error: weights of {nbytes / 2**30:.1f} GiB, {free_bytes / 2**30:.1f} GiB of RAM"
                " are free\n  try   --shapes lite   or   fewer --formats"
            )
        arena = HostArena(nbytes + HUGE_PAGE_BYTES, NumaPolicy.INTERLEAVE)
        self._all = arena.take(arena.nbytes)
        self._used_bytes = 0
        self._read_bytes = 0

    def empty(self) -> None:
        """What was given out is given out again."""
        self._used_bytes = 0

    def read_gb_s(self, threads: int) -> float:
        """1e9 bytes per second at which this many workers read the next READ_BYTES of it."""
        nbytes = min(READ_BYTES, len(self._all))
        if self._read_bytes + nbytes > len(self._all):
            self._read_bytes = 0
        address = self._all.data_ptr() + self._read_bytes
        self._read_bytes += nbytes
        return pool.read_at_gb_s(address, nbytes, threads)

    def raw(self, nbytes: int) -> Tensor:
        """uint8 [nbytes] on a cache line, with whatever was there."""
        begin = self._used_bytes
        self._used_bytes += aligned(nbytes)
        assert self._used_bytes <= len(self._all), "a group needs more than it said"
        return self._all[begin : begin + nbytes]

    def blocks(self, block_format: BlockFormat, shape: tuple[int, ...]) -> BlockTensor:
        """Blocks like those of trained weights, [..., rows, columns]."""
        *leading, columns = shape
        row_bytes = block_format.row_bytes(columns)
        room = self.raw(torch.Size(leading).numel() * row_bytes)
        pattern = _pattern(block_format)
        whole = len(room) // len(pattern) * len(pattern)
        room[:whole].view(-1, len(pattern)).copy_(pattern)
        room[whole:].copy_(pattern[: len(room) - whole])
        return BlockTensor(room.view(*leading, row_bytes), block_format, columns)


@cache
def _pattern(block_format: BlockFormat) -> Tensor:
    count = PATTERN_BYTES // block_format.block_bytes
    return like_weights(block_format, (1, count * block_format.block_weights)).blocks[0]
