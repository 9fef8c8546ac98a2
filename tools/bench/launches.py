"""What a launch costs: compiling, the host's part, and a kernel's place in a replayed graph, with
and without the overlap of neighbours.

    python -m tools.bench.launches [--kernels 200] [--threads 128]

A step of a model is some hundred such kernels, so that a microsecond each is what a token loses
before anything is computed. Checks that every kernel saw its predecessor's result.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kernels.cuda import Kernel, Program, Record, nvrtc
from kernels.cuda.driver import capability
from tools.bench.flags import positive
from tools.bench.gpu_time import captured, need_gpu, queued_us
from tools.bench.table import Cell, show

COLUMNS = ("work", "blocks", "us")
BLOCKS = (1, 132, 1056)


class StepRecord(Record):
    _fields_ = (("x", ctypes.c_void_p),)


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    need_gpu("launches")
    program = Program("launches.cu", Path(__file__).parent)
    rows: list[list[Cell]] = [
        ["compile, nothing cached", 0, _seconds(lambda: _compile(program)) * 1e6],
        ["load, cached", 0, _seconds(lambda: program.kernel("step<1>", "cuda")) * 1e6],
    ]
    kernel = program.kernel("step<1>", "cuda")
    for blocks in BLOCKS:
        x = torch.zeros(blocks * arguments.threads, device="cuda")
        rows.append(["launch, host", blocks, _host_us(kernel, x, arguments)])
        for overlap in (False, True):
            name = "in a graph, overlapping" if overlap else "in a graph, one after the other"
            rows.append([name, blocks, _graph_us(kernel, x, arguments, overlap)])
    show("launches", COLUMNS, rows)


def _compile(program: Program) -> None:
    nvrtc.build(program.source, ["step<1>"], capability(torch.cuda.current_device()))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _launch(kernel: Kernel, x: torch.Tensor, arguments: argparse.Namespace, overlap: bool) -> None:
    blocks = x.numel() // arguments.threads
    record = StepRecord(x.data_ptr())
    for _ in range(arguments.kernels):
        kernel.launch((blocks, 1, 1), arguments.threads, record, overlap=overlap)


def _host_us(kernel: Kernel, x: torch.Tensor, arguments: argparse.Namespace) -> float:
    """Of one launch, with a queue that is not full."""
    _launch(kernel, x, arguments, overlap=True)
    torch.cuda.synchronize()
    spent = _seconds(lambda: _launch(kernel, x, arguments, overlap=True))
    torch.cuda.synchronize()
    return spent / arguments.kernels * 1e6


def _graph_us(
    kernel: Kernel, x: torch.Tensor, arguments: argparse.Namespace, overlap: bool
) -> float:
    """Of one kernel in a graph that is replayed."""
    graph = captured(lambda: _launch(kernel, x, arguments, overlap))
    x.zero_()
    graph.replay()
    torch.cuda.synchronize()
    if not bool((x == arguments.kernels).all()):
        raise SystemExit(f"error: a kernel did not see its predecessor's result, overlap={overlap}")
    return queued_us(graph.replay) / arguments.kernels


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what a kernel launch costs")
    parser.add_argument("--kernels", type=positive, default=200, help="of a graph")
    parser.add_argument("--threads", type=positive, default=128, help="of a block")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
