"""Listening to decode steps on a real GPU: parts against unstamped steps and a profiler's table,
tokens, memory.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.gpu.stamps import PART_OF, Stamps
from hybrid.runtime.step_times import StepTimes
from hybrid.runtime.timing import Intervals
from tests.runtime.gpu.placements import ignored_warnings
from tests.runtime.gpu.test_cuda_memory import MADE
from tests.runtime.listeners import Ear, assert_times_are_whole
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, ignored_warnings]

TOKENS, PROMPT = 400, 40
EVERY = 4  # passes, the first of them measured
PLACES: dict[str, dict[str, Any]] = {
    "all on the GPU": {"rules": [".*=CUDA0"]},
    "experts in RAM": {"rules": ["exps=CPU"]},
}


class Often(Intervals):
    """Steps of a made model are so short that hardly any would be measured."""

    def took(self, cost_s: float, pass_s: float) -> None:
        self._left = EVERY - 1


@dataclass
class Run:
    """Tokens without and with listeners; segments that torch's pool asked the driver for, and bytes
    of the GPU that went, since the engine was loaded.
    """

    engine: Engine
    alone: list[int]
    tokens: list[int]
    ear: Ear
    segments: int
    taken_bytes: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("listening") / "made.gguf", **MADE)


@pytest.fixture(scope="module", params=PLACES)
def run(request: pytest.FixtureRequest, made: Path) -> Run:
    engine = hybrid.load(made, devices=("CUDA0",), context=1024, **PLACES[request.param])
    engine._timing._intervals[False] = Often()
    alone, ear = generated(engine), Ear()
    torch.cuda.synchronize()
    segments = torch.cuda.memory_stats()["segment.all.allocated"]
    free, _ = torch.cuda.mem_get_info()
    engine.listen(ear)
    tokens = generated(engine)
    engine.unlisten(ear)
    taken = free - torch.cuda.mem_get_info()[0]
    segments = torch.cuda.memory_stats()["segment.all.allocated"] - segments
    return Run(engine, alone, tokens, ear, segments, taken)


def generated(engine: Engine, count: int = TOKENS) -> list[int]:
    engine.forget()
    ids = [(7 * i * i + 3) % 30_000 for i in range(PROMPT)]
    stream = engine.generate(ids, max_tokens=count, temperature=0, ignore_stop=True)
    return [token.id for token in stream]


def steps(ear: Ear) -> list[StepTimes]:
    """All but the first few, when clocks and caches are still cold."""
    return [times for _, prompt, times in ear.times if not prompt][4:]


def test_tokens_are_the_same_with_and_without_listening(run: Run) -> None:
    assert run.tokens == run.alone


def test_listening_takes_nothing_of_the_gpu(run: Run) -> None:
    assert run.segments == 0
    assert run.taken_bytes <= 0


def test_parts_sum_to_a_step_without_stamps(run: Run) -> None:
    assert_times_are_whole(run.ear)
    measured = {id(stats) for stats, _, _ in run.ear.times}
    plain = median(
        stats.seconds
        for stats, prompt in run.ear.passes[TOKENS // 8 :]
        if not prompt and id(stats) not in measured
    )
    sums = [
        sum(each.parts["CUDA0"].values()) - each.parts["CPU"]["sampling"] for each in steps(run.ear)
    ]
    assert all(each.measuring_s > 0 for each in steps(run.ear))
    assert abs(median(sums) / plain - 1) < 0.03, (median(sums), plain)


def stamps_of(engine: Engine) -> Stamps:
    [chain] = [
        block.chain
        for block in engine._model.blocks
        if isinstance(block, GpuBlock) and block.chain is not None
    ]
    stamped = chain._sizes[0].stamped
    assert stamped is not None
    return stamped.stamps


class CostEar(Ear):
    """Keeps what was taken for a stamp's cost, of each measured pass."""

    def __init__(self, stamps: Stamps) -> None:
        super().__init__()
        self.stamps = stamps
        self.costs_us: list[float] = []

    def on_times(self, times: StepTimes) -> None:
        super().on_times(times)
        if not self.passes[-1][1]:
            self.costs_us.append(1e6 * self.stamps.cost.seconds)


def test_parts_agree_with_a_profilers_table(run: Run) -> None:
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  slow to import

    stamps = stamps_of(run.engine)
    ear = CostEar(stamps)
    run.engine.listen(ear)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        generated(run.engine, 64)
        torch.cuda.synchronize()
    run.engine.unlisten(ear)
    heard = [times for _, prompt, times in ear.times if not prompt]
    assert len(heard) > 10
    ended = [
        event.time_range.end
        for event in found.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA and "stamp<" in event.name
    ]
    places = [what for _, what in stamps._ended]
    each = len(stamps._host[: len(places) + 9])
    # The counts of the prompt's experts are of the same kernel, and come first.
    ended = sorted(ended)[-each * len(heard) :]
    assert len(ended) == each * len(heard)
    for number, times in list(enumerate(heard))[4:]:
        marks = ended[number * each : (number + 1) * each]
        table = dict.fromkeys(PART_OF.values(), 0.0)
        for what, begin, end in zip(places, marks[:-1], marks[1:], strict=False):
            table[PART_OF[what]] += max(end - begin - ear.costs_us[number], 0.0)
        for name in ("attention", "experts", "dense", "head"):
            got_us = 1e6 * times.parts["CUDA0"].get(name, 0.0)
            allowed_us = 0.03 * table[name] + 0.2 * places.count(name)
            assert abs(got_us - table[name]) < allowed_us, (name, table, times.parts)
