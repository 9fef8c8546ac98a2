"""Blocks that follow one another on one GPU, captured as one CUDA graph for 1, 2, 4 and 8 tokens.

    host    writes h, positions, lengths │ replay │ serve: answer every layer's mailbox │
    GPU             begin, block, block ...  (publish ··· receive)  ... end

A pass of 3 tokens is one of 4 whose last token is there twice: it writes the same cache row with
the same values. Between two replays the host touches nothing of the graph; lengths are device
memory, numbers of crossings are counted on both sides.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.errors import MachineError
from hybrid.models.parts import Step
from hybrid.runtime.crossing import Place
from hybrid.runtime.stats import Meter
from kernels.mailbox.serve import Service
from kernels.step import StepInput

SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Captured:
    """The launches of a step of one size.

    source   pinned host memory that the first launch reads
    target   what it becomes on the GPU; its hidden is the residual stream, and the result
    """

    graph: torch.cuda.CUDAGraph
    source: StepInput
    target: StepInput


class GpuChain:
    """One pass over the blocks, h [T, D] on any device -> [T, D] on the GPU, T up to 8.

    captured    by size
    service     answers the layers whose experts are in RAM; None: there are none
    workspace   its memory
    """

    def __init__(
        self,
        place: Place,
        captured: dict[int, Captured],
        service: Service | None,
        workspace: Tensor,
        threads: int,
        meter: Meter,
    ) -> None:
        self._place = place
        self._captured = captured
        self._service = service
        self._workspace = workspace
        self._threads = threads
        self._meter = meter
        self._read = torch.cuda.Event()  # the GPU has taken the last step's input

    def __call__(self, h: Tensor, step: Step) -> Tensor:
        size = next(size for size in SIZES if size >= step.tokens)
        captured = self._captured[size]
        with torch.cuda.device(self._place.torch_device):
            self._read.synchronize()
            self._write(captured, h, step)
            captured.graph.replay()
            self._read.record()
            if self._service is not None:
                self._serve(size)
        return captured.target.hidden[: step.tokens]

    def _write(self, captured: Captured, h: Tensor, step: Step) -> None:
        source = captured.source
        last = step.tokens - 1
        for row in range(len(source.positions)):
            token = min(row, last)
            position = step.start + token
            source.positions[row] = position
            source.rows[row] = position
            source.seen[row] = position + 1
        if h.device.type != "cpu":  # from another GPU, a few kilobytes
            self._meter.crossing_bytes += h.nbytes
        source.hidden[: step.tokens] = h
        source.hidden[step.tokens :] = source.hidden[last]

    def _serve(self, size: int) -> None:
        assert self._service is not None, "asked only where there is one"
        with self._meter.on("CPU"):
            self._service.serve(size, self._workspace, self._threads)


def capture(
    device: torch.device, launches: Callable[[], None]
) -> torch.cuda.CUDAGraph:
    """The graph of what `launches` enqueues; it has run once before, so that everything is
    compiled and nothing is loaded while it is captured.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            launches()
    return graph


def gpu_failed(place: Place, error: RuntimeError) -> MachineError:
    """What a user is told when CUDA refuses to go on."""
    return MachineError(
        f"{place.name} failed while it computed",
        str(error).splitlines()[0],
        remedy=[
            "start the program again; nvidia-smi and the system's log say whether the GPU is lost",
            "--device none runs without it",
        ],
    )
