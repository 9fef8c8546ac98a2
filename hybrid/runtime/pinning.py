"""The host arena pinned for GPUs, chunk by chunk behind the readers.

    readers    fill chunk 0      fill chunk 1      fill chunk 2
    pinning                      pin 0             pin 1         ...

A GPU copies from pinned memory at the full speed of its bus and beside its own work. To pin is to
walk over every page: it is done while the file is read, of pages that are there already. A chunk is
whole tensors, so no copy out of one tensor crosses from one chunk into another.

A driver or a system may refuse. Then all is unpinned, for memory pinned in part cannot be copied in
one go, and experts reach GPUs at a lower speed: a note, not an error.
"""

import mmap
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import torch
from torch import Tensor

from hybrid.runtime.arena import HostArena
from hybrid.runtime.memory import DeviceMemory, GpuMemory, HostMemory
from kernels.cuda import host_memory
from kernels.errors import CudaCallFailed, CudaDriverMissing
from placement.machines.machine import CPU
from placement.plan import PlacementPlan
from placement.units import format_bytes

CHUNK_BYTES = 256 << 20  # a chunk ends with the tensor that fills it
LIMITS = "a locked-memory limit (ulimit -l), a container or WSL may forbid it"


class Registrar(Protocol):
    """Who pins pages: `GpuRegistrar`, or a test."""

    def register(self, address: int, nbytes: int) -> None: ...

    def unregister(self, address: int) -> None: ...


@dataclass(frozen=True, slots=True)
class GpuRegistrar:
    """The driver, through the context of one GPU; what it pins is pinned for all of them."""

    device: torch.device

    def register(self, address: int, nbytes: int) -> None:
        host_memory.register(address, nbytes, self.device)

    def unregister(self, address: int) -> None:
        host_memory.unregister(address, self.device)


@dataclass(slots=True)
class _Chunk:
    """nbytes from a page's border to a page's border; missing_bytes have not arrived yet."""

    address: int
    nbytes: int
    missing_bytes: int
    arena: HostArena


class Pinning:
    """Pins all that was taken of some arenas so far; unpinned before an arena's memory is freed.

    pinned_bytes   so far; none once the driver has refused

    A thread of its own runs from the first full chunk until `finish`. A refusal is added to the
    first arena's notes.
    """

    def __init__(self, arenas: Sequence[HostArena], registrar: Registrar) -> None:
        self.pinned_bytes = 0
        self._arenas = arenas
        self._registrar = registrar
        self._chunks = sorted(
            (chunk for arena in arenas for chunk in _chunks(arena)), key=lambda c: c.address
        )
        self._starts = [chunk.address for chunk in self._chunks]
        self._pinned: dict[int, list[int]] = {id(arena): [] for arena in arenas}
        self._refused = False
        self._counting = threading.Lock()
        self._full: SimpleQueue[_Chunk | None] = SimpleQueue()
        for arena in arenas:
            arena.before_freeing(Unpin(self._pinned[id(arena)], registrar))
        self._thread: threading.Thread | None = None

    def arrived(self, part: Tensor) -> None:
        """Contiguous bytes of a tensor are in their place; memory of others is passed over."""
        before = bisect_right(self._starts, part.data_ptr())
        if not before:
            return
        chunk = self._chunks[before - 1]
        if part.data_ptr() >= chunk.address + chunk.nbytes:
            return
        with self._counting:
            chunk.missing_bytes -= part.nbytes
            if chunk.missing_bytes == 0:
                self._pin(chunk)

    def finish(self, *, rest: bool) -> None:
        """Returns when every full chunk is pinned.

        rest   and with it those that nothing was read into, such as caches
        """
        with self._counting:
            for chunk in self._chunks if rest else ():
                if chunk.missing_bytes:
                    self._pin(chunk)
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()

    def _pin(self, chunk: _Chunk) -> None:
        self._full.put(chunk)
        if self._thread is None:
            self._thread = threading.Thread(target=self._pin_full, name="hybrid-pin", daemon=True)
            self._thread.start()

    def _pin_full(self) -> None:
        while chunk := self._full.get():
            if self._refused:
                continue
            try:
                self._registrar.register(chunk.address, chunk.nbytes)
            except (CudaCallFailed, CudaDriverMissing) as error:
                self._give_up(error)
            else:
                self._pinned[id(chunk.arena)].append(chunk.address)
                self.pinned_bytes += chunk.nbytes

    def _give_up(self, error: Exception) -> None:
        self._refused = True
        pinned = format_bytes(self.pinned_bytes)
        for addresses in self._pinned.values():
            Unpin(addresses, self._registrar)()
        self.pinned_bytes = 0
        self._arenas[0].notes.append(
            f"not pinned, so prompts copy experts to GPUs more slowly: after {pinned} {error}; "
            f"{LIMITS}"
        )


def pin_experts(
    plan: PlacementPlan, memories: dict[str, DeviceMemory], *, mapped: bool
) -> Pinning | None:
    """Begins to pin the host's arenas where GPUs will copy routed experts out of them.

    mapped   the weights stay in the file's map, which is not pinned

    Call it when all weights have been placed; `reading.read_weights` tells it what arrives.
    """
    host = memories[CPU]
    gpus = [memory for memory in memories.values() if isinstance(memory, GpuMemory)]
    in_ram = any(part.device == CPU and "_exps." in part.tensor for part in plan.assignments)
    if mapped or not gpus or not in_ram or not isinstance(host, HostMemory):
        return None
    arenas = [arena for arena in (host.arena, *host.bound.values()) if arena is not None]
    return Pinning(arenas, GpuRegistrar(gpus[0].place.torch_device))


def _chunks(arena: HostArena) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    for address, nbytes in arena.taken:
        full = not chunks or chunks[-1].nbytes >= CHUNK_BYTES
        if full and address % mmap.PAGESIZE == 0:
            chunks.append(_Chunk(address, 0, 0, arena))
        chunk = chunks[-1]
        chunk.nbytes = _whole_pages(address + nbytes - chunk.address)
        chunk.missing_bytes += nbytes
    return [chunk for chunk in chunks if chunk.nbytes]


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Unpin:
    """Unpins what is in the list, and empties it."""

    addresses: list[int]
    registrar: Registrar

    def __call__(self) -> None:
        while self.addresses:
            try:
                self.registrar.unregister(self.addresses.pop())
            except CudaCallFailed:  # a process that ends, or a lost GPU, has unpinned it already
                continue
