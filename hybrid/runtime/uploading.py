"""Bytes on their way to GPUs: pinned memory, a stream of each reader's own, sorted on arrival.

    reader    fill A      fill B      wait until A has left, fill A ...
    stream           A -> GPU, sort       B -> GPU, sort

A reader (a thread) has two buffers, so that reading, copying and sorting go on side by side; copies
of several readers share the bus. What is sorted into planes is copied to a buffer on the GPU first,
one for each reader: `staging_bytes` of each GPU, whatever the size of the model.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.planar import PlanarTensor, place_rows, prepare_place_rows
from placement.memory.overheads import UPLOAD_BUFFERS, UPLOAD_BYTES

Fill = Callable[[Tensor], None]  # puts a piece of the file into uint8 memory


def staging_bytes(readers: int) -> int:
    """GPU memory that loading takes on each GPU beside what it fills; given back thereafter.

    A single row longer than UPLOAD_BYTES takes its length in place of that.
    """
    return readers * UPLOAD_BYTES


@dataclass(frozen=True, slots=True)
class PlaneRows:
    """Where rows of the file belong among planes: rows first, first+1, ... of `planar`."""

    planar: PlanarTensor
    first: int

    def place(self, rows: Tensor) -> None:
        """rows   uint8 of whole rows as they are in the file, on the planes' device."""
        known, columns = self.planar.format, self.planar.columns
        blocks = rows.view(-1, known.row_bytes(columns))
        place_rows(self.planar, self.first, BlockTensor(blocks, known, columns))


@dataclass(slots=True)
class _Lane:
    """One reader's buffers, in turn, and its streams and staging buffers by GPU."""

    buffers: list[Tensor] = field(default_factory=list)
    left: list[torch.cuda.Event | None] = field(default_factory=lambda: [None] * UPLOAD_BUFFERS)
    turn: int = 0
    streams: dict[torch.device, torch.cuda.Stream] = field(default_factory=dict)
    staging: dict[torch.device, Tensor] = field(default_factory=dict)

    def next_buffer(self, nbytes: int) -> Tensor:
        """The buffer whose bytes left first, once they have."""
        if not self.buffers:
            self.buffers = [_pinned(UPLOAD_BYTES) for _ in self.left]
        self.turn = (self.turn + 1) % UPLOAD_BUFFERS
        if leaving := self.left[self.turn]:
            leaving.synchronize()
        if self.buffers[self.turn].numel() < nbytes:
            self.buffers[self.turn] = _pinned(nbytes)
        return self.buffers[self.turn][:nbytes]


class Uploads:
    """Uploads by any threads to `devices`; `finish` waits for all of them.

    devices   GPUs; everything queued on their current streams comes before any upload
    staged    of them those that get planes
    readers   threads that will upload

    Raises what `kernels.cuda.Program` does, and torch's errors where the GPU has no memory left.
    """

    def __init__(
        self, devices: Iterable[torch.device], staged: Iterable[torch.device], readers: int
    ) -> None:
        # Taken here and not by the readers: their streams would keep pools of their own.
        self._spare = {
            device: [_on_gpu(UPLOAD_BYTES, device) for _ in range(readers)] for device in staged
        }
        for device in self._spare:
            prepare_place_rows(device)
        # Behind all that: memory may be filled while it is taken (torch's determinism, tests).
        self._before = {device: _now(device) for device in devices}
        self._lanes: list[_Lane] = []
        self._own = threading.local()

    def upload(self, fill: Fill, target: Tensor, rows: PlaneRows | None) -> None:
        """`fill` is called with memory of target's size; its bytes get to `target`, or as rows
        among the planes that `target` is part of. Does not wait for that.
        """
        lane = self._lane()
        buffer = lane.next_buffer(target.numel())
        fill(buffer)
        with torch.cuda.stream(self._stream(lane, target.device)):
            if rows is None:
                target.copy_(buffer, non_blocking=True)
            else:
                staged = self._staging(lane, target)
                staged.copy_(buffer, non_blocking=True)
                rows.place(staged)
            lane.left[lane.turn] = _now(target.device)

    def finish(self) -> None:
        """Until every upload is done; buffers may be freed then."""
        for lane in self._lanes:
            for stream in lane.streams.values():
                stream.synchronize()

    def _lane(self) -> _Lane:
        found: _Lane | None = getattr(self._own, "lane", None)
        if found is None:
            found = self._own.lane = _Lane()
            self._lanes.append(found)
        return found

    def _stream(self, lane: _Lane, device: torch.device) -> torch.cuda.Stream:
        if device not in lane.streams:
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stream.wait_event(self._before[device])
            lane.streams[device] = stream
        return lane.streams[device]

    def _staging(self, lane: _Lane, target: Tensor) -> Tensor:
        device, nbytes = target.device, target.numel()
        if device not in lane.staging:
            lane.staging[device] = self._spare[device].pop()
        if lane.staging[device].numel() < nbytes:
            lane.streams[device].synchronize()  # the smaller one may be in use
            lane.staging[device] = _on_gpu(nbytes, device)
        return lane.staging[device][:nbytes]


def _now(device: torch.device) -> torch.cuda.Event:
    """After all that the current stream has been given; who waits for it sleeps."""
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _on_gpu(nbytes: int, device: torch.device) -> Tensor:
    return torch.empty(nbytes, dtype=torch.uint8, device=device)


def _pinned(nbytes: int) -> Tensor:
    # Without a right to lock memory the copies are slower, and wait: as safe as with it.
    with suppress(RuntimeError):
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
    return torch.empty(nbytes, dtype=torch.uint8)
