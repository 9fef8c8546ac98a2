"""How GPU benches time: all their figures are microseconds of the GPU between two events.

    us   of one: REPLAYS in a row between the events, divided by their number; median of ROUNDS

Launches are captured once and their graph is replayed, as in a decode step, so that the host's part
of a launch is not in the figure. Where the weights should come from memory, a graph holds a launch
for each of so many layers that the second cache keeps none of them until the next replay.

The copy that figures are compared with is not captured: as a graph's memcpy node it was seen to
reach 2720 GB/s on an H200 that copies 4200 outside of graphs.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

DEVICE = torch.device("cuda")
REPLAYS, ROUNDS = 10, 5
COPIED_BYTES = 1 << 30

Each = TypeVar("Each")


class Span:
    """From `with Span() as span:` to the block's end, in the order of torch's current stream."""

    def __init__(self) -> None:
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __enter__(self) -> "Span":
        self._begin.record()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.record()

    def is_over(self) -> bool:
        return self._end.query()

    def us(self) -> float:
        """Of the GPU; waits for the end."""
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) * 1e3


def need_gpu(measured: str) -> None:
    """Exits where there is no GPU on which `measured` could be measured."""
    if not torch.cuda.is_available():
        raise SystemExit(
            f"error: no CUDA device; this bench measures {measured} on one\n"
            "  try   a machine with an NVIDIA GPU, and torch's build for CUDA"
        )


def queued_us(queue: Callable[[], object]) -> float:
    """Of one call of `queue`, whatever it queues; called once before."""
    queue()
    rounds = []
    for _ in range(ROUNDS):
        with Span() as span:
            for _ in range(REPLAYS):
                queue()
        rounds.append(span.us() / REPLAYS)
    return statistics.median(rounds)


def captured(launch: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """What `launch` queues, as a graph; its kernels are loaded already."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return graph


def microseconds(launch: Callable[[], None]) -> float:
    """Of one `launch` in a replayed graph; launched once before, so that its kernels are loaded."""
    launch()
    return queued_us(captured(launch).replay)


def each_us(launch: Callable[[Each], None], layers: Sequence[Each]) -> float:
    """Of launch(layer), in a replayed graph that holds one for every layer."""

    def all_layers() -> None:
        for layer in layers:
            launch(layer)

    return microseconds(all_layers) / len(layers)


def copy_gb_s() -> float:
    """What the GPU's memory gives at most: bytes read and written by a copy inside it, a second."""
    source = torch.randint(256, (COPIED_BYTES,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / queued_us(lambda: target.copy_(source)) / 1e3
