"""Listening to decode steps on a real GPU: stamps against what a profiler sees of the same steps,
and of steps without; tokens, memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.expert_usage import ExpertUsage
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.gpu.stamps import PART_OF, Stamps
from hybrid.runtime.step_times import StepTimes
from tests.runtime.gpu.placements import ignored_warnings
from tests.runtime.gpu.test_cuda_memory import MADE
from tests.runtime.listeners import Ear, Often, assert_times_are_whole
from tools.bench.gpu_step_parts import Launch, part_times, plain_steps, stamped_steps
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, pytest.mark.alone, ignored_warnings]

TOKENS, PROMPT, PROFILED = 400, 40, 240
EVERY = 8  # passes, the first of them measured
STEP_SHARE = 0.03  # of a step
# Of a part as the profiler sees it: of the same steps, and for the two clocks; of steps without
# stamps, in which other kernels overlap, and for each stamp.
SAME_SHARE, CLOCKS_US = 0.03, 1.0
PLAIN_SHARE, SPAN_US = 0.15, 1.0
COMPUTED = ("attention", "dense", "experts", "head")
PLACES: dict[str, dict[str, Any]] = {
    "all on the GPU": {"rules": [".*=CUDA0"]},
    "experts in RAM": {"rules": ["exps=CPU"]},
}


@dataclass
class Run:
    """Tokens without and with listeners; segments that torch's pool asked the driver for, and bytes
    of the GPU that went, since the engine was loaded.

    loaded        experts' counts then
    routed_here   whether experts are on the GPU
    """

    engine: Engine
    loaded: ExpertUsage
    routed_here: bool
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
    loaded = engine.expert_usage
    engine._timing._intervals[False] = Often(EVERY)
    alone, ear = generated(engine), Ear()
    torch.cuda.synchronize()
    segments = torch.cuda.memory_stats()["segment.all.allocated"]
    free, _ = torch.cuda.mem_get_info()
    engine.listen(ear)
    tokens = generated(engine)
    engine.unlisten(ear)
    taken = free - torch.cuda.mem_get_info()[0]
    segments = torch.cuda.memory_stats()["segment.all.allocated"] - segments
    routed_here = "all" in request.param
    return Run(engine, loaded, routed_here, alone, tokens, ear, segments, taken)


def generated(engine: Engine, count: int = TOKENS) -> list[int]:
    engine.forget()
    ids = [(7 * i * i + 3) % 30_000 for i in range(PROMPT)]
    stream = engine.generate(ids, max_tokens=count, temperature=0, ignore_stop=True)
    return [token.id for token in stream]


def steps(ear: Ear) -> list[StepTimes]:
    """All but the first few, when clocks and caches are still cold."""
    return [times for _, prompt, times in ear.times if not prompt][4:]


def plain_passes(ear: Ear) -> list[float]:
    """Seconds of decoding passes that were not measured."""
    measured = {id(stats) for stats, _, _ in ear.times}
    return [
        stats.seconds for stats, prompt in ear.passes if not prompt and id(stats) not in measured
    ]


def beside_the_pass_before(ear: Ear) -> list[tuple[float, float]]:
    """Seconds of the pass just before each measured one, and of that one less its measuring."""
    decoding = [stats for stats, prompt in ear.passes if not prompt]
    before = {id(stats): decoding[i] for i, stats in enumerate(decoding[1:])}
    told = [(before[id(stats)], times) for stats, prompt, times in ear.times[4:] if not prompt]
    return [(plain.seconds, sum(of_pass(times).values())) for plain, times in told]


def of_pass(times: StepTimes) -> dict[str, float]:
    """The GPU's parts without the choice of the token before, for which it waits."""
    parts = dict(times.parts["CUDA0"])
    parts["waiting"] -= times.parts["CPU"].get("sampling", 0.0)
    return parts


def test_tokens_are_the_same_with_and_without_listening(run: Run) -> None:
    assert run.tokens == run.alone


def test_listening_takes_nothing_of_the_gpu(run: Run) -> None:
    assert run.segments == 0
    assert run.taken_bytes <= 0


def test_steps_that_are_tried_while_loading_count_no_choices(run: Run) -> None:
    assert run.loaded.counted_tokens == 0
    assert {sum(counts) for counts in run.loaded.layers.values()} <= {0}


def test_a_measured_step_less_its_measuring_is_as_long_as_a_plain_one(run: Run) -> None:
    """What measuring costs is learned from the same comparison, over the last steps: this fails
    where that is beyond what it may cost (`PassCost`), and does not say that parts are right.
    """
    assert_times_are_whole(run.ear)
    pairs = beside_the_pass_before(run.ear)
    longer_s = median([measured - plain for plain, measured in pairs])
    plain_s = median([plain for plain, _ in pairs])
    cost = cost_of_stamps(run.engine)
    taken_s = median([times.measuring_s for _, prompt, times in run.ear.times if not prompt])
    assert abs(longer_s) < STEP_SHARE * plain_s, (longer_s, plain_s, taken_s, cost)
    assert 0 < taken_s < 0.2 * plain_s, (plain_s, taken_s, cost)


@dataclass
class Profiled:
    """Medians over steps of a profiled generation, microseconds.

    plain     parts, by the kernels of steps without stamps
    seen      parts, by the kernels of steps with stamps
    stamps    the same by what lies between these stamps
    told      the same without what stamps cost: what a listener hears
    waits     whether experts in RAM are waited for
    spans     stamps that a part has
    pass_us   of passes without stamps
    cost      what a stamp was taken to cost
    """

    plain: dict[str, float]
    seen: dict[str, float]
    stamps: dict[str, float]
    told: dict[str, float]
    waits: bool
    spans: dict[str, int]
    pass_us: float
    cost: dict[str, float]


class StampEar(Ear):
    """Also hears what lies between stamps: parts of each step, microseconds."""

    def __init__(self, stamps: Stamps) -> None:
        super().__init__()
        self.between: list[dict[str, float]] = []
        self._stamps = stamps

    def on_times(self, times: StepTimes) -> None:
        super().on_times(times)
        if self.times[-1][1]:
            return  # of a prompt
        ns = self._stamps._host.tolist()
        parts = dict.fromkeys(PART_OF.values(), 0.0)
        for number, (_, what) in enumerate(self._stamps._ended):
            parts[PART_OF[what]] += 1e-3 * (ns[number + 1] - ns[number])
        self.between.append(parts)


@pytest.fixture(scope="module")
def profiled(run: Run) -> Profiled:
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  slow to import

    ear = StampEar(stamps_of(run.engine))
    run.engine.listen(ear)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        generated(run.engine, PROFILED)
        torch.cuda.synchronize()
    run.engine.unlisten(ear)
    launches = [
        Launch(event.name, 0, event.time_range.start, event.time_range.end)
        for event in found.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]

    def parts(steps: list[list[Launch]]) -> list[dict[str, float]]:
        return [part_times(each, routed_here=run.routed_here) for each in steps]

    plain, seen = parts(plain_steps(launches)), parts(stamped_steps(launches))
    walls = plain_passes(ear)
    assert len(plain) == len(walls) > PROFILED // 2
    assert len(seen) == len(ear.between) > PROFILED // EVERY // 2
    told = [of_pass(times) for _, prompt, times in ear.times if not prompt]
    ended = [PART_OF[what] for _, what in stamps_of(run.engine)._ended]
    # What a stamp costs under the profiler is known when half of them are done.
    return Profiled(
        medians(plain[PROFILED // 2 :]),
        medians(seen[len(seen) // 2 :]),
        medians(ear.between[len(seen) // 2 :]),
        {name: 1e6 * us for name, us in medians(told[len(seen) // 2 :]).items()},
        not run.routed_here,
        {name: ended.count(name) for name in COMPUTED},
        1e6 * median(walls[PROFILED // 2 :]),
        cost_of_stamps(run.engine),
    )


def medians(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for each in steps for name in each}
    return {name: median([each.get(name, 0.0) for each in steps]) for name in names}


def stamps_of(engine: Engine) -> Stamps:
    [chain] = [
        block.chain
        for block in engine._model.blocks
        if isinstance(block, GpuBlock) and block.chain is not None
    ]
    stamped = chain._sizes[0].stamped
    assert stamped is not None
    return stamped.stamps


def cost_of_stamps(engine: Engine) -> dict[str, float]:
    """Microseconds: of one, of one of nothing, of a step; for who reads a failure."""
    cost = stamps_of(engine).cost
    return {
        "one": 1e6 * cost.seconds,
        "of nothing": 1e6 * median(cost._of_nothing),
        "step": 1e6 * cost.step_s,
    }


@pytest.mark.parametrize("name", [*COMPUTED, "waiting"])
def test_stamps_agree_with_a_profiler_about_the_same_steps(profiled: Profiled, name: str) -> None:
    seen_us, stamps_us = profiled.seen.get(name, 0.0), profiled.stamps[name]
    assert (seen_us > 0) == (name != "waiting" or profiled.waits)
    assert abs(stamps_us - seen_us) <= SAME_SHARE * seen_us + CLOCKS_US, vars(profiled)


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_told_of_a_part_is_what_it_takes_without_stamps(
    profiled: Profiled, name: str
) -> None:
    plain_us, told_us = profiled.plain[name], profiled.told[name]
    allowed_us = PLAIN_SHARE * plain_us + SPAN_US * profiled.spans[name]
    assert plain_us > 0
    assert abs(told_us - plain_us) < allowed_us, (vars(profiled), allowed_us)


def test_what_is_told_as_waiting_and_other_is_what_plain_steps_are_not_computing(
    profiled: Profiled,
) -> None:
    rest_us = sum(us for name, us in profiled.told.items() if name not in COMPUTED)
    plain_us = profiled.pass_us - sum(profiled.plain[name] for name in COMPUTED)
    allowed_us = STEP_SHARE * profiled.pass_us + SPAN_US * sum(profiled.spans.values())
    assert abs(rest_us - plain_us) < allowed_us, (vars(profiled), allowed_us)
