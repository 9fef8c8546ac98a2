"""Routed experts from RAM to a GPU for long prompts: each crosses PCIe once for all tokens.

    copies    experts n+1 ──► staged blocks (two buffers in turn)
    compute   experts n: blocks ─► planes ─► products

The order of all layers' experts is known, so the copies run ahead of a layer by one group: the
first of the next layer comes while its attention is computed. A buffer is filled again when the
planes of what it held are made; both streams wait for events, the host for nothing. From pinned
memory copies take PCIe's speed; from other memory they are slower and as right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hybrid.runtime.experts import ExpertWeights
from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.planar import PlanarTensor, place_rows
from placement.memory.gpu_scratch import STAGED_ALIGNMENT


@dataclass(frozen=True, slots=True)
class ExpertGroup:
    """Some experts of a layer in planes on the GPU; `begin` counts from the first one held.

    gate, up   [some, feed_forward, width]; down [some, width, feed_forward]
    fresh      the planes are being made by launches before those that will read them
    """

    gate: PlanarTensor
    up: PlanarTensor
    down: PlanarTensor
    begin: int
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class ExpertSource:
    """Experts first .. first + count - 1 of a layer, for a prompt.

    parts   each part's groups, in order; parts share the feed-forward length (NUMA nodes), so
            their outputs are summed
    """

    first: int
    count: int
    parts: tuple[Callable[[], Iterator[ExpertGroup]], ...]


@dataclass(frozen=True, slots=True)
class _Job:
    weights: ExpertWeights
    begin: int
    end: int


@dataclass(slots=True)
class _Buffer:
    """memory   uint8 on the GPU; holds the blocks of job number `job`, -1: none"""

    memory: Tensor
    filled: torch.cuda.Event | None
    emptied: torch.cuda.Event | None
    job: int = -1


class ExpertStream:
    """The experts in RAM of one GPU's layers.

    layers         by layer number: the parts of its experts, as `CpuExperts.weights` or
                   `ShardedExperts.parts` have them
    memory         uint8 on the GPU, of `placement.memory.gpu_scratch.stream_bytes`: two buffers of
                   blocks and one of planes
    most_values    weights of gate and up that are decoded at once

    Raises KernelInputError when a third of the memory does not hold one expert.
    """

    def __init__(
        self, layers: Mapping[int, Sequence[ExpertWeights]], memory: Tensor, most_values: int
    ) -> None:
        third = memory.numel() // 3 // STAGED_ALIGNMENT * STAGED_ALIGNMENT
        rooms = [memory[i * third : (i + 1) * third] for i in range(3)]
        self._planes = rooms[0]
        on_gpu = memory.is_cuda
        self._copies: torch.cuda.Stream | None = None
        if on_gpu:
            self._copies = torch.cuda.Stream(memory.device)  # type: ignore[no-untyped-call]
        event = torch.cuda.Event if on_gpu else lambda: None
        self._buffers = [_Buffer(room, event(), event()) for room in rooms[1:]]
        self._jobs: list[_Job] = []
        self._sources: dict[int, ExpertSource] = {}
        for layer, parts in sorted(layers.items()):
            runs = [self._plan(weights, third, most_values) for weights in parts]
            whole = parts[0]
            groups = tuple(partial(self._groups, jobs) for jobs in runs)
            self._sources[layer] = ExpertSource(whole.first, whole.count, groups)

    def source(self, layer: int) -> ExpertSource | None:
        """The layer's experts; None for one that has none here."""
        return self._sources.get(layer)

    def _plan(self, weights: ExpertWeights, room_bytes: int, most_values: int) -> range:
        """Cuts experts into groups of about one size, and gives their job numbers."""
        if _group_bytes(weights, 1) > room_bytes:
            raise KernelInputError(
                f"an expert of {_group_bytes(weights, 1)} bytes does not fit a buffer of"
                f" {room_bytes}"
            )
        _, rows, columns = weights.gate.shape
        most = max(1, most_values // (2 * rows * columns))
        while _group_bytes(weights, most) > room_bytes:
            most -= 1
        groups = -(-weights.count // most)
        first = len(self._jobs)
        cuts = [weights.count * i // groups for i in range(groups + 1)]
        self._jobs += [_Job(weights, *cut) for cut in zip(cuts[:-1], cuts[1:], strict=True)]
        return range(first, len(self._jobs))

    def _groups(self, jobs: range) -> Iterator[ExpertGroup]:
        for number in jobs:
            self._bring(number)
            if number + 1 < len(self._jobs):
                self._bring(number + 1)
            yield self._laid_out(number)

    def _bring(self, number: int) -> None:
        """Has the job's blocks copied, unless they are there or on their way."""
        buffer, job = self._buffers[number % 2], self._jobs[number]
        if buffer.job == number:
            return
        buffer.job = -1  # until the copies are all enqueued
        targets = _matrices(job, buffer.memory)
        sources = _sources(job)
        with self._after(buffer.emptied):
            for source, target in zip(sources, targets, strict=True):
                _copy(source, target)
            if buffer.filled is not None:
                buffer.filled.record()
        buffer.job = number

    @contextmanager
    def _after(self, event: torch.cuda.Event | None) -> Iterator[None]:
        """On the stream of copies, when the event has come; on the CPU at once."""
        if self._copies is None or event is None:
            yield
            return
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(event)
            yield

    def _laid_out(self, number: int) -> ExpertGroup:
        buffer, job = self._buffers[number % 2], self._jobs[number]
        if buffer.filled is not None:
            torch.cuda.current_stream(buffer.memory.device).wait_event(buffer.filled)
        blocks = _matrices(job, buffer.memory)
        gate, up, down = (_planar(each) for each in _matrices(job, self._planes))
        for source, target in zip(blocks, (gate, up, down), strict=True):
            place_rows(target, 0, _rows(source))
        if buffer.emptied is not None:
            buffer.emptied.record(torch.cuda.current_stream(buffer.memory.device))
        return ExpertGroup(gate, up, down, job.begin, fresh=True)


def _sources(job: _Job) -> list[BlockTensor]:
    w = job.weights
    return [each[job.begin : job.end] for each in (w.gate, w.up, w.down)]


def _matrices(job: _Job, memory: Tensor) -> list[BlockTensor]:
    """Gate, up and down of the job's experts over a buffer, one behind the other."""
    begin, found = 0, []
    for source in _sources(job):
        blocks = memory[begin : begin + source.nbytes].view(source.blocks.shape)
        found.append(BlockTensor(blocks, source.format, source.columns))
        begin += _aligned(source.nbytes)
    return found


def _planar(room: BlockTensor) -> PlanarTensor:
    experts, rows, _ = room.shape
    return PlanarTensor(room.blocks.view(-1), room.format, room.shape, experts * rows)


def _rows(experts: BlockTensor) -> BlockTensor:
    return BlockTensor(experts.blocks.flatten(0, 1), experts.format, experts.columns)


def _copy(source: BlockTensor, target: BlockTensor) -> None:
    """Whole, or expert by expert where others lie between (gate and up in one tensor)."""
    if source.blocks.is_contiguous():
        target.blocks.copy_(source.blocks, non_blocking=True)
        return
    for expert in range(source.shape[0]):
        target.blocks[expert].copy_(source.blocks[expert], non_blocking=True)


def _group_bytes(weights: ExpertWeights, experts: int) -> int:
    matrices = (weights.gate, weights.up, weights.down)
    return sum(_aligned(each.nbytes // weights.count * experts) for each in matrices)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // STAGED_ALIGNMENT) * STAGED_ALIGNMENT
