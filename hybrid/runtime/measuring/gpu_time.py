"""Microseconds of a GPU between two events: work queued many times, or a graph replayed.

A round is `repeats` calls in a row between the events; the median of ROUNDS counts. Launches of
kernels are captured, as in a decode step, so that the host's part of a launch is not in the figure.
"""

import statistics
from collections.abc import Callable, Sequence

import torch

from hybrid.runtime.gpu.replay import GraphReplay

REPEATS, ROUNDS = 10, 5


class Span:
    """Of the current stream of a device: `with span: queue()`, then `us()`."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        with torch.cuda.device(place):
            self._begin, self._end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )

    def begin(self) -> None:
        self._begin.record(torch.cuda.current_stream(self._place))

    def end(self) -> None:
        self._end.record(torch.cuda.current_stream(self._place))

    def us(self) -> float:
        """Waits for the end."""
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) * 1e3


def pinned(nbytes: int) -> torch.Tensor:
    """Touched bytes of the host that every GPU reaches."""
    return torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)


def queued_us(queue: Callable[[], object], place: torch.device, repeats: int = REPEATS) -> float:
    """Of one call of `queue`, whatever it queues; called once before."""
    with torch.cuda.device(place):
        queue()
        rounds = []
        for _ in range(ROUNDS):
            span = Span(place)
            span.begin()
            for _ in range(repeats):
                queue()
            span.end()
            rounds.append(span.us() / repeats)
    return statistics.median(rounds)


def graph_us(launches: Callable[[], None], place: torch.device) -> float:
    """Of one run of `launches` as a replayed graph; run once before, which loads the kernels."""
    graph = GraphReplay(place, launches, launches)
    return queued_us(graph.start, place)


def together_s(
    places: Sequence[torch.device], queues: Sequence[Callable[[], object]], repeats: int
) -> list[float]:
    """Seconds in which each GPU does its own queue's work `repeats` times, all GPUs at once.

    Work is queued in turn, so that no GPU has ended before the last one begins.
    """
    for queue in queues:
        queue()
    for place in places:
        torch.cuda.synchronize(place)
    spans = [Span(place) for place in places]
    for span in spans:
        span.begin()
    for _ in range(repeats):
        for queue in queues:
            queue()
    for span in spans:
        span.end()
    return [span.us() / 1e6 for span in spans]
