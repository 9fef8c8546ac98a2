"""Where each microsecond of a decode step goes: GPU, CPU, crossings, and Python between.

    python -m tools.bench.gpu_step MODEL [-d 4096] [-n 64] [flags as `hybrid bench`: -ot, -ngl, -c]

host     parts of one token as the host's clock saw them; they add up to the time of a token
CPU      waits for a GPU's crossings, and the experts' time between post and answer, over layers
GPU      kernels of replayed graphs, from the profiler: what each moves the end of all work, so that
         overlaps count once; `receive` holds the wait for the CPU's experts
limit    bytes that a token reads on a device over what its memory gives, measured here
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import mean, median
from time import perf_counter

import torch

from hybrid.cli.loading import load_engine
from hybrid.cli.output import say
from hybrid.cli.parser import whole
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.errors import UsageError
from hybrid.runtime.bandwidth import ram_read_gb_s
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.gpu.chain import GpuChain
from placement.cost.traffic import decode_traffic
from placement.machines.machine import CPU
from tools.bench.engine_bench import engine_parser, told_errors
from tools.bench.gpu_step_parts import (
    GpuTime,
    Launch,
    TimedOp,
    Watch,
    kernel_times,
    spread,
)
from tools.bench.gpu_time import copy_gb_s, need_gpu
from tools.bench.table import Cell, show

WARM, PROFILED = 4, 16  # tokens
NAME_LENGTH = 72  # of a kernel with its template's arguments
COLUMNS = ("part", "times", "min us", "median us", "max us", "us a token")
SERVING = "CPU: between crossings"

Row = list[Cell]


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens decoded one after the other from one depth on.

    ids      in the cache before them, and one more
    tokens   counted, after WARM that are not
    """

    engine: Engine
    ids: Sequence[int]
    tokens: int

    def warmed(self) -> Iterator[object]:
        """Tokens that are counted, those before them done."""
        count = WARM + self.tokens
        stream = self.engine.generate(self.ids, max_tokens=count, temperature=0, ignore_stop=True)
        for _ in range(WARM):
            next(stream)
        return stream


def walls(stream: Iterator[object], after: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds of each token: pass, greedy choice, text. `after` each, something not counted."""
    found = []
    while True:
        began = perf_counter()
        if next(stream, None) is None:
            return found
        found.append(perf_counter() - began)
        after()


def main(words: Sequence[str] | None = None) -> None:
    parser = engine_parser("gpu_step", __doc__)
    parser.add_argument("-d", "--n-depth", type=whole(0), default=0, metavar="N", help="of context")
    parser.add_argument("-n", "--n-gen", type=whole(1), default=64, metavar="N", help="tokens (64)")
    add_placement_flags(parser)
    args = parser.read(sys.argv[1:] if words is None else words)
    need_gpu("the parts of a decode step")
    gpu_gb_s = copy_gb_s()
    torch.cuda.empty_cache()
    if args.ctx_size is None and args.plan is None:
        args.ctx_size = args.n_depth + 1 + WARM + max(args.n_gen, PROFILED)
    engine = load_engine(args)
    chains = chains_of(engine)
    ids = _drawn(engine, args.n_depth + 1)
    run = Run(engine, ids, args.n_gen)
    plain = walls(run.warmed())
    rows = [*host_rows(run, chains), _row("measured: token, nothing watched", plain, len(plain))]
    rows += gpu_rows(run)
    cached = args.n_depth + args.n_gen // 2
    rows += limit_rows(engine, cached, gpu_gb_s, ram_read_gb_s(engine.threads))
    say(f"{1 / median(plain):.1f} tok/s at depth {args.n_depth}, nothing watched")
    torch.set_num_threads(engine.threads)  # told in the table's head; small passes take one
    show(f"gpu_step at depth {args.n_depth}", COLUMNS, rows)


def chains_of(engine: Engine) -> list[GpuChain]:
    """The graphs of the engine's steps, in order. Raises UsageError without one."""
    blocks = [block for block in engine._model.blocks if isinstance(block, GpuBlock)]
    chains = [block.chain for block in blocks if block.chain is not None]
    if not chains:
        raise UsageError(
            "no block of this placement is a GPU's graph",
            remedy=["-ngl 99 -ot exps=CPU", "--kernels fast"],
        )
    return chains


@dataclass(frozen=True, slots=True)
class Answered:
    """Of one token: seconds by crossing until the GPU had posted, and from there to the answer."""

    waited: list[float]
    computed: list[float]


def host_rows(run: Run, chains: Sequence[GpuChain]) -> list[Row]:
    """All parts of a token on the host's clock, and their sum."""
    services = [chain._cpu.service for chain in chains if chain._cpu is not None]
    answered: list[Answered] = []

    def keep() -> None:
        waited = [seconds for each in services for seconds in each.waited_s]
        computed = [seconds for each in services for seconds in each.computed_s]
        answered.append(Answered(waited, computed))

    with watched(run.engine, chains) as watch:
        stream = run.warmed()
        watch.seconds.clear()
        seconds = walls(stream, keep)
    serving = watch.seconds.pop(SERVING, [])
    rows = [_row(label, watch.seconds[label], run.tokens) for label in sorted(watch.seconds)]
    inside = sum(serving) + sum(map(sum, watch.seconds.values()))
    rows.append(_rest("host: choice of the token, text", sum(seconds) - inside, run.tokens))
    if services:
        rows += _crossing_rows(answered, sum(serving), run.tokens)
    return [*rows, _row("sum: token", seconds, run.tokens)]


@contextmanager
def watched(engine: Engine, chains: Sequence[GpuChain]) -> Iterator[Watch]:
    """The parts of the engine's passes, each under its name."""
    watch, model = Watch(), engine._model
    engine._model = replace(
        model,
        embedding=TimedOp(watch, "host: embedding", model.embedding),
        blocks=tuple(
            block if isinstance(block, GpuBlock) else TimedOp(watch, "host: other blocks", block)
            for block in model.blocks
        ),
        ending=TimedOp(watch, "host: logits that no graph has", model.ending),
    )
    watch.method(engine, "_pass", "host: Python around the graphs")
    for chain in chains:
        watch.method(chain, "_write", "host: input of the graph")
        watch.method(chain._sizes[0].replay, "start", "host: launch of the graph")
        watch.method(chain._sizes[0].replay, "wait", "host: wait for the graph's end")
        if chain._cpu is not None:
            watch.method(chain._cpu.service, "serve", SERVING)
    try:
        yield watch
    finally:
        watch.end()
        engine._model = model


def _crossing_rows(answered: Sequence[Answered], serving_s: float, tokens: int) -> list[Row]:
    """Waits and experts over all crossings; the spread of experts is that over blocks."""
    waited = [seconds for token in answered for seconds in token.waited]
    computed = [seconds for token in answered for seconds in token.computed]
    by_block = [mean(each) for each in zip(*(token.computed for token in answered), strict=True)]
    experts = _row("CPU: experts of a block", by_block, 1)
    return [
        _row("CPU: waits for the GPU's crossing", waited, tokens),
        ["CPU: experts of a block", len(computed) // tokens, *experts[2:5], _us(computed, tokens)],
        _rest("CPU: between crossings", serving_s - sum(waited) - sum(computed), tokens),
    ]


def gpu_rows(run: Run) -> list[Row]:
    """Kernels and gaps of each GPU over replayed graphs, and the time of a token meanwhile."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  slow to import

    short = replace(run, tokens=PROFILED)
    stream = short.warmed()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        seconds = walls(stream)
        torch.cuda.synchronize()
    launches = [
        Launch(event.name, event.device_index, event.time_range.start, event.time_range.end)
        for event in found.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    rows = []
    for device in sorted({launch.device for launch in launches}):
        here = kernel_times(launch for launch in launches if launch.device == device)
        rows += kernel_rows(here, device, PROFILED)
    return [*rows, _row("measured: token, GPU profiled", seconds, PROFILED)]


def kernel_rows(found: GpuTime, device: int, tokens: int) -> list[Row]:
    """One GPU's kinds of kernels, the longest in all first; gaps; their sum but for idle time."""
    where = f"GPU {device}"
    rows: list[Row] = []
    for name, each in sorted(found.kernels.items(), key=lambda item: -item[1].moved_us):
        own = spread([us * 1e-6 for us in each.own_us])
        count = round(len(each.own_us) / tokens, 2)
        rows.append([f"{where}: {name}"[:NAME_LENGTH], count, *own, each.moved_us / tokens])
    return [
        *rows,
        [f"{where}: gaps within a step", "", "", "", "", found.gaps_us / tokens],
        [f"{where}: sum of a step", "", "", "", "", (found.busy_us + found.gaps_us) / tokens],
        [f"{where}: idle between steps", "", "", "", "", found.idle_us / tokens],
    ]


def limit_rows(engine: Engine, cached_tokens: int, gpu_gb_s: float, ram_gb_s: float) -> list[Row]:
    """What reading a token's bytes takes at least, device after device."""
    traffic = decode_traffic(engine.plan, engine.prepared.inventory, cached_tokens)
    rows: list[Row] = []
    total_us = 0.0
    for name, read in traffic.items():
        gb_s = ram_gb_s if name == CPU else gpu_gb_s
        us = read.total_bytes / gb_s / 1e3
        total_us += us
        what = f"limit: {name} reads {read.total_bytes / 1e6:.1f} MB at {gb_s:.0f} GB/s"
        rows.append([what, "", "", "", "", us])
    return [*rows, ["limit: sum of the devices", "", "", "", "", total_us]]


def _row(label: str, seconds: Sequence[float], tokens: int) -> Row:
    return [label, round(len(seconds) / tokens, 2), *spread(seconds), _us(seconds, tokens)]


def _rest(label: str, seconds: float, tokens: int) -> Row:
    return [label, "", "", "", "", seconds / tokens * 1e6]


def _us(seconds: Sequence[float], tokens: int) -> float:
    return sum(seconds) / tokens * 1e6


def _drawn(engine: Engine, count: int) -> list[int]:
    vocabulary = engine.prepared.config.vocabulary
    return random.Random("gpu_step").choices(range(vocabulary), k=count)


if __name__ == "__main__":
    with told_errors():
        main()
