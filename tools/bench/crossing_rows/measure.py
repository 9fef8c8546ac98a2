"""A row, and the time of what was queued on a GPU."""

import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from kernels.cuda import Program

Row = tuple[str, float | str, str]  # what, how much or why not, unit

PROGRAM = Program("kernels.cu", Path(__file__).parent)


def event_us(run: Callable[[], None], rounds: int) -> float:
    """Median microseconds of the GPU between the start and the end of `run`, warm."""
    times = []
    for _ in range(rounds + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times[3:])


def captured(record: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """What `record` queues, as a graph; its kernels are loaded already."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        record()
    return graph


def or_reason(what: str, unit: str, run: Callable[[], float]) -> Row:
    """A row; what this machine or torch cannot do says why in place of a number."""
    try:
        return what, run(), unit
    except (RuntimeError, OSError) as error:
        return what, str(error).splitlines()[0][:70], ""
