"""Where a decode step's time goes: a stopwatch on the host, kernels as the profiler saw them.

host     calls inside of calls count for themselves alone, so that all parts add up to the whole
kernels  overlap: what a kernel takes is how far it moves the end of all work so far, so that
         kernels and gaps add up to the time from the first start to the last end
parts    of a step: from the end of one part's last kernel to that of the next one's, which is what
         stamps say of their own steps
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

FIRST_OF_STEP = "begin_step"  # in the name of the kernel that a step's graph begins with
STAMP = "stamp"
ROUTER = ("route", "choose", "post")
COPY = "Memcpy"
ENDS_BLOCK = ("expert_down", "receive")


class Watch:
    """Seconds inside calls by label, call after call, without those of watched calls in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._nested: list[float] = []
        self._watched: list[tuple[object, str]] = []

    def timed(self, label: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            self._nested.append(0.0)
            began = perf_counter()
            try:
                return call(*given, **options)
            finally:
                spent = perf_counter() - began
                self.seconds[label].append(spent - self._nested.pop())
                if self._nested:
                    self._nested[-1] += spent

        return run

    def method(self, owner: object, name: str, label: str) -> None:
        """Of one object, until `end`."""
        setattr(owner, name, self.timed(label, getattr(owner, name)))
        self._watched.append((owner, name))

    def end(self) -> None:
        for owner, name in self._watched:
            delattr(owner, name)  # the class's own is seen again
        self._watched.clear()


class TimedOp:
    """An embedding, block or ending of a model under a watch."""

    def __init__(self, watch: Watch, label: str, op: Any) -> None:
        self._op = op
        self._run = watch.timed(label, op)

    def __call__(self, *given: Any) -> Any:
        return self._run(*given)

    def greatest(self) -> tuple[int, float] | None:
        found: tuple[int, float] | None = self._op.greatest()
        return found


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel or copy that ran, microseconds of the profiler's clock."""

    name: str
    device: int
    start_us: float
    end_us: float


@dataclass(slots=True)
class KernelTime:
    """Of all launches of one name.

    own_us     from start to end, each: waiting for earlier ones is counted in
    moved_us   by how much they moved the end of all work, in all
    """

    own_us: list[float] = field(default_factory=list)
    moved_us: float = 0.0


@dataclass(frozen=True, slots=True)
class GpuTime:
    """Of some steps on one GPU; kernels and the two kinds of gaps add up to its span.

    gaps_us   nothing ran, within a step
    idle_us   nothing ran, between one step's last kernel and the next one's first
    """

    kernels: dict[str, KernelTime]
    gaps_us: float
    idle_us: float

    @property
    def busy_us(self) -> float:
        return sum(each.moved_us for each in self.kernels.values())


def kernel_times(launches: Iterable[Launch]) -> GpuTime:
    """Of one GPU's launches, whose order does not matter."""
    kernels: dict[str, KernelTime] = defaultdict(KernelTime)
    gaps_us = idle_us = 0.0
    end_us: float | None = None
    for launch in sorted(launches, key=lambda each: (each.start_us, each.end_us)):
        before = launch.start_us if end_us is None else end_us
        gap = max(0.0, launch.start_us - before)
        if FIRST_OF_STEP in launch.name:
            idle_us += gap
        else:
            gaps_us += gap
        found = kernels[short_name(launch.name)]
        found.own_us.append(launch.end_us - launch.start_us)
        found.moved_us += max(0.0, launch.end_us - max(before, launch.start_us))
        end_us = max(before, launch.end_us)
    return GpuTime(dict(kernels), gaps_us, idle_us)


def plain_steps(launches: Iterable[Launch]) -> list[list[Launch]]:
    """The launches of each step of one GPU that had no stamps, in order. What was launched before
    the first step is left out; the last one counts as whole.
    """
    return [step for step in _steps(launches) if not any(map(_is_stamp, step))]


def stamped_steps(launches: Iterable[Launch]) -> list[list[Launch]]:
    """Likewise of each step with stamps, all but these: what they took is before the next."""
    return [
        [launch for launch in step if not _is_stamp(launch)]
        for step in _steps(launches)
        if any(map(_is_stamp, step))
    ]


def _steps(launches: Iterable[Launch]) -> list[list[Launch]]:
    steps: list[list[Launch]] = []
    for launch in sorted(launches, key=lambda each: (each.start_us, each.end_us)):
        if FIRST_OF_STEP in launch.name:
            steps.append([])
        if steps:
            steps[-1].append(launch)
    for step in steps:
        while _is_stamp(step[-1]):  # the first ones of the next step
            step.pop()
    return steps


def _is_stamp(launch: Launch) -> bool:
    return short_name(launch.name).startswith(STAMP)


def part_times(step: Sequence[Launch], *, routed_here: bool) -> dict[str, float]:
    """Microseconds of each part of a step: how far its kernels move the end of all work, gaps
    before them included.

    step          launches in order, as `plain_steps` gives them
    routed_here   whether routed experts are on this GPU, where a block has them

    Parts are those of `hybrid.runtime.step_times`; `waiting` is all of `receive`, and the copy of
    the head's logits is `crossing` with all behind it: before the next step's first kernel the
    host may have a GPU look up a token's row.
    """
    parts: dict[str, float] = defaultdict(float)
    names = [short_name(launch.name) for launch in step]
    last = max((at for at, name in enumerate(names) if name.startswith(ENDS_BLOCK)), default=-1)
    end_us, routed, done = step[0].start_us, False, False
    for at, (launch, name) in enumerate(zip(step, names, strict=True)):
        part = "head" if at > last else "attention"
        done = done or (at > last and name.startswith(COPY))
        if done or name.startswith(FIRST_OF_STEP):
            part = "crossing"
        elif name.startswith(ROUTER):
            part, routed = "experts", True
        elif name.startswith("expert_"):
            part = "experts" if routed and routed_here else "dense"
        elif name.startswith("receive"):
            part = "waiting"
        elif at <= last:
            routed = False  # the next block's attention
        moved_us = max(0.0, launch.end_us - end_us)
        parts[part] += moved_us
        end_us += moved_us
    return dict(parts)


def short_name(name: str) -> str:
    """Without return type, namespaces, casts of template arguments and parameters."""
    name = name.removeprefix("void ").partition("(hybrid::")[0]
    return name.replace("hybrid::", "").replace("(anonymous namespace)::", "").replace("(int)", "")


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and most, in microseconds of seconds."""
    ordered = sorted(values)
    return ordered[0] * 1e6, ordered[len(ordered) // 2] * 1e6, ordered[-1] * 1e6
