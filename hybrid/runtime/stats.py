"""Where time and bytes went: the meter that runs along, and the figures a step leaves behind."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from hybrid.runtime.ledger import OTHER, Ledger

Computing = Literal["prompt", "decode"]


@dataclass(frozen=True, slots=True)
class StepStats:
    """One forward pass.

    tokens           tokens computed in it
    start            position of the first of them
    seconds          wall time of the pass, from ids to logits
    device_seconds   wall time per device; they sum to `seconds`, less the host's own bookkeeping
    crossing_bytes   activations that changed devices, both ways
    native_s         seconds of it inside native calls; None with a real GPU, whose time is
                     neither
    """

    tokens: int
    start: int
    seconds: float
    device_seconds: dict[str, float]
    crossing_bytes: int
    native_s: float | None = None


@dataclass(slots=True)
class RunStats:
    """Sums over an engine's life.

    Rates are tokens per second of time inside forward passes.

    computing   "prompt" or "decode" while such a pass goes on, None between passes
    """

    load_s: float = 0.0
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    reused_tokens: int = 0
    decode_tokens: int = 0
    decode_s: float = 0.0
    device_s: dict[str, float] = field(default_factory=dict)
    crossing_bytes: int = 0
    computing: Computing | None = None

    @contextmanager
    def during(self, *, prompt: bool) -> Iterator[None]:
        """A pass is computed inside."""
        self.computing = "prompt" if prompt else "decode"
        try:
            yield
        finally:
            self.computing = None

    @property
    def prompt_tokens_per_s(self) -> float | None:
        return self.prompt_tokens / self.prompt_s if self.prompt_s else None

    @property
    def decode_tokens_per_s(self) -> float | None:
        return self.decode_tokens / self.decode_s if self.decode_s else None

    def add(self, step: StepStats, *, prompt: bool) -> None:
        if prompt:
            self.prompt_tokens += step.tokens
            self.prompt_s += step.seconds
        else:
            self.decode_tokens += step.tokens
            self.decode_s += step.seconds
        for device, seconds in step.device_seconds.items():
            self.device_s[device] = self.device_s.get(device, 0.0) + seconds
        self.crossing_bytes += step.crossing_bytes


class Meter:
    """Wall time by device, exclusive: while the CPU computes for CUDA0, CUDA0's clock stands.

    Host clocks only. A real GPU's work is charged when it is waited for: at every crossing.

    ledger   of a pass that is measured in parts, else None
    counts   whether somebody wants to know which experts are chosen
    """

    def __init__(self) -> None:
        self.device_seconds: dict[str, float] = {}
        self.crossing_bytes = 0
        self.ledger: Ledger | None = None
        self.counts = False
        self._running: list[tuple[str, str]] = []
        self._since = 0.0

    @contextmanager
    def on(self, device: str, part: str | None = None) -> Iterator[None]:
        """Charge the time inside to `device`, and to a part of its work: without one, to the part
        that is under way where this is called from.
        """
        self._charge()
        self._running.append((device, part or (self._running[-1][1] if self._running else OTHER)))
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def part(self, name: str) -> AbstractContextManager[None]:
        """Charge the time inside to a part of the work of the device that is at work."""
        return self.on(self._running[-1][0], name)

    def shift(self, seconds: float, source: str, target: str) -> None:
        """Charge to `target` what was, or will be, charged to `source`: they took turns inside."""
        for device, more in ((source, -seconds), (target, seconds)):
            self.device_seconds[device] = self.device_seconds.get(device, 0.0) + more

    def reset(self) -> None:
        self.ledger = None
        self.device_seconds = {}
        self.crossing_bytes = 0

    def _charge(self) -> None:
        now = perf_counter()
        if self._running:
            device, part = self._running[-1]
            spent = now - self._since
            if self.ledger is not None:
                self.ledger.turn(device, part, spent)
            self.device_seconds[device] = self.device_seconds.get(device, 0.0) + spent
        self._since = now
