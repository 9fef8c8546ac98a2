"""Listeners for tests."""

from dataclasses import dataclass, field

from hybrid.runtime.stats import StepStats
from hybrid.runtime.step_times import StepTimes
from hybrid.runtime.timing import Intervals
from hybrid.runtime.token import Token

GPU_PARTS = {"attention", "dense", "experts", "head", "crossing", "waiting", "other"}
CPU_PARTS = {"experts", "attention", "dense", "head", "sampling", "waiting", "other"}


@dataclass
class Ear:
    """Everything in order: kind and what was told."""

    heard: list[tuple[str, object]] = field(default_factory=list)
    passes: list[tuple[StepStats, bool]] = field(default_factory=list)
    times: list[tuple[StepStats, bool, StepTimes]] = field(default_factory=list)

    def on_pass(self, stats: StepStats, *, prompt: bool) -> None:
        self.heard.append(("pass", stats.tokens))
        self.passes.append((stats, prompt))

    def on_prompt(self, done: int, total: int) -> None:
        self.heard.append(("prompt", (done, total)))

    def on_token(self, token: Token) -> None:
        self.heard.append(("token", token.id))

    def on_times(self, times: StepTimes) -> None:
        self.heard.append(("times", len(times.parts)))
        self.times.append((*self.passes[-1], times))


class Often(Intervals):
    """Measures one pass of `every`, whatever that costs: steps of a made model are so short that
    hardly any would be measured.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every

    def took(self, cost_s: float, pass_s: float) -> None:
        self._left = self._every - 1


def assert_times_are_whole(ear: Ear) -> None:
    """Every device's parts, known ones, sum to the pass and the choice of its token.

    A ledger fills them up until they do, so this does not say that any of them is right.
    """
    assert ear.times
    for stats, prompt, times in ear.times:
        wall_s = stats.seconds + times.parts["CPU"].get("sampling", 0.0) - times.measuring_s
        for device, parts in times.parts.items():
            assert set(parts) <= (CPU_PARTS if device == "CPU" else GPU_PARTS), (device, parts)
            assert all(seconds >= 0 for seconds in parts.values()), (device, parts)
            assert abs(sum(parts.values()) / wall_s - 1) < 1e-6, (device, parts, stats, prompt)
