"""What an engine tells while it works, kept so that any thread can ask for it: the listener.

    generating thread   on_pass, on_prompt, on_times ─> events, as they come; on_token ─> tokens
    any other           heard(): events ─> rings ─> sums

Between two tokens of a millisecond every line of Python is paid for: it comes out of a cache that
the weights have just gone through. So an event is one append without a lock; whoever asks adds it
to the rings, and the generating thread itself only once a second.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from hybrid.live.mean_times import MeanTimes, mean_times
from hybrid.live.rate_ring import RateRing, Stretch
from hybrid.live.snapshot import Phase, Progress
from hybrid.runtime.step_times import StepTimes

WINDOW_STEPS = 32  # measured tokens that a time is the mean of
WINDOW_BATCHES = 4  # of a prompt
WARM_UP_TOKENS = 8  # the first ones are slower: of them no prediction is
SETTLED_S = 10.0
MOST_PIECES, MOST_TEXT = 1024, 4000  # of the text's end: tokens, characters
SETTLE_S = 1.0
USAGE_S = 2.0  # from one look at the counts to the next: many layers' take a millisecond
# Between passes: without news for so long, in passes of the last one's length, nobody wants more.
IDLE_PASSES, IDLE_S = 4, 1.0


Usage = Mapping[int, Sequence[int]]


class PassStats(Protocol):
    """What is asked of `hybrid.runtime.stats.StepStats`."""

    @property
    def tokens(self) -> int: ...

    @property
    def start(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def crossing_bytes(self) -> int: ...


class ChosenToken(Protocol):
    """What is asked of `hybrid.runtime.token.Token`."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Separator:
    """Stands between tokens of one turn and of the next."""

    text: str


BETWEEN_TURNS = _Separator("\n\n")


@dataclass(frozen=True, slots=True)
class Passed:
    """A forward pass.

    end     by the recorder's clock
    start   tokens in the cache before it
    """

    end: float
    seconds: float
    start: int
    tokens: int
    crossing_bytes: int


@dataclass(frozen=True, slots=True)
class Heard:
    """All of it at one moment.

    phase            PROMPT, DECODE or IDLE
    cached_tokens    in the cache after the last pass; None before the first
    crossing_bytes   of the last decoded token
    settled          the last SETTLED_S of decoding, however long ago, without the warm-up
    read             the last WINDOW_BATCHES micro-batches of the last prompt
    usage            layer -> times that each expert was chosen, at most USAGE_S old
    """

    phase: Phase
    decode_now: float | None = None
    decode_10_s: float | None = None
    prompt_now: float | None = None
    ms_a_token: float | None = None
    history: tuple[float, ...] = ()
    cached_tokens: int | None = None
    crossing_bytes: int | None = None
    progress: Progress | None = None
    settled: tuple[Stretch, ...] = ()
    read: tuple[Passed, ...] = ()
    times: MeanTimes = MeanTimes()
    text: str = ""
    usage: Usage = field(default_factory=dict)


class Recorder:
    """A listener of `Engine.listen`.

    clock   seconds, never going back
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._events = deque[tuple[Any, ...]]()
        self._tokens = deque[ChosenToken](maxlen=MOST_PIECES)
        # Bound once: an event is a tuple and an append, a token the append alone.
        self.on_token = self._tokens.append
        self._pass, self._batch, self._times = self._add_pass, self._add_batch, self._add_times
        self._settle_at = 0.0
        self._count: Callable[[], Usage] | None = None
        self._usage: Usage = {}
        self._usage_at = 0.0
        self._lock = threading.Lock()  # of all below
        self._decode, self._prompt = RateRing(WARM_UP_TOKENS), RateRing()
        self._last: dict[bool, Passed] = {}
        self._read = deque[Passed](maxlen=WINDOW_BATCHES)
        self._was_prompt = False
        self._cached_tokens: int | None = None
        self._steps = deque[tuple[int, StepTimes]](maxlen=WINDOW_STEPS)
        self._batches = deque[tuple[int, StepTimes]](maxlen=WINDOW_BATCHES)
        self._total = 0
        self._done = deque[tuple[float, int]](maxlen=WINDOW_BATCHES + 1)

    def counts(self, usage: Callable[[], Usage]) -> None:
        """Have counts of chosen experts too.

        usage   called on the generating thread, after a decoded token or a whole prompt: it may
                wait for a GPU, which has more to do between the micro-batches of a prompt
        """
        self._count = usage

    def on_pass(self, stats: PassStats, *, prompt: bool) -> None:
        now = self._clock()
        self._events.append((self._pass, now, stats, prompt))
        if now >= self._settle_at:
            self._settle(now)
        if not prompt and now >= self._usage_at:
            self._recount(now)

    def on_prompt(self, done: int, total: int) -> None:
        if done == 0 and self._tokens:
            self._tokens.append(BETWEEN_TURNS)
        now = self._clock()
        self._events.append((self._batch, now, done, total))
        if done >= total and now >= self._usage_at:
            self._recount(now)

    def on_times(self, times: StepTimes) -> None:
        self._events.append((self._times, times))

    def heard(self, computing: str | None = None) -> Heard:
        """As of now. From any thread.

        computing   "prompt" or "decode" while such a pass goes on, however long it takes
        """
        now = self._clock()
        with self._lock:
            self._add_events()
            done, total = tuple(self._done), self._total
            steps, batches = tuple(self._steps), tuple(self._batches)
            decoded, read = self._last.get(False), self._last.get(True)
            cached_tokens = self._cached_tokens
            decode, prompt = self._decode.copy(), self._prompt.copy()
            micro_batches = tuple(self._read)
        phase = Phase(computing) if computing else _phase(now, done, total, decoded)
        return Heard(
            phase,
            decode_now=_slow_too(decode.rate(now, 1.0), decoded, now),
            decode_10_s=decode.rate(now, 10.0),
            prompt_now=_slow_too(prompt.rate(now, 1.0), read, now),
            ms_a_token=1e3 * decoded.seconds / decoded.tokens if decoded else None,
            history=decode.history(now),
            cached_tokens=cached_tokens,
            crossing_bytes=decoded.crossing_bytes if decoded else None,
            progress=_progress(done, total) if done and phase is Phase.PROMPT else None,
            settled=decode.stretches(decoded.end, SETTLED_S) if decoded else (),
            read=micro_batches,
            times=mean_times(batches if phase is Phase.PROMPT else steps),
            text="".join(token.text for token in self._tokens.copy())[-MOST_TEXT:],
            usage=self._usage,
        )

    def _settle(self, now: float) -> None:
        """On the generating thread: events do not pile up where nobody asks."""
        self._settle_at = now + SETTLE_S
        with self._lock:
            self._add_events()

    def _recount(self, now: float) -> None:
        """On the generating thread, when no GPU has anything left to do."""
        self._usage_at = now + USAGE_S
        if self._count is not None:
            self._usage = self._count()

    def _add_events(self) -> None:
        """Those told so far, in their order."""
        for _ in range(len(self._events)):
            add, *told = self._events.popleft()
            add(*told)

    def _add_pass(self, now: float, stats: PassStats, prompt: bool) -> None:
        self._was_prompt = prompt
        its = Passed(now, stats.seconds, stats.start, stats.tokens, stats.crossing_bytes)
        self._last[prompt] = its
        (self._prompt if prompt else self._decode).add(now, its.seconds, its.tokens, its.start)
        if prompt:
            self._read.append(its)
        self._cached_tokens = stats.start + stats.tokens

    def _add_batch(self, now: float, done: int, total: int) -> None:
        if done == 0:
            self._done.clear()
            self._batches.clear()
            self._read.clear()
        self._total = total
        self._done.append((now, done))

    def _add_times(self, times: StepTimes) -> None:
        its = self._last.get(self._was_prompt)
        if its is not None:  # else this began to listen within the pass
            kept = self._batches if self._was_prompt else self._steps
            kept.append((its.tokens, times))


def _phase(
    now: float, done: Sequence[tuple[float, int]], total: int, decoded: Passed | None
) -> Phase:
    """Between two passes."""
    if done and done[-1][1] < total:
        batch_s = done[-1][0] - done[-2][0] if len(done) > 1 else 0.0
        stopped = now - done[-1][0] > max(IDLE_PASSES * batch_s, IDLE_S)
        return Phase.IDLE if stopped else Phase.PROMPT
    ends = [(at, 0.0) for at, _ in done[-1:]]
    if decoded is not None:
        ends.append((decoded.end, decoded.seconds))
    last, seconds = max(ends, default=(now - 2 * IDLE_S, 0.0))
    return Phase.IDLE if now - last > max(IDLE_PASSES * seconds, IDLE_S) else Phase.DECODE


def _slow_too(rate: float | None, last: Passed | None, now: float) -> float | None:
    """Where passes take longer than the stretch of the rate, the last one's."""
    if rate is not None or last is None or now - last.end > IDLE_PASSES * last.seconds:
        return rate
    return last.tokens / last.seconds


def _progress(done: Sequence[tuple[float, int]], total: int) -> Progress:
    """Of a prompt; its rate is of the last micro-batches, as later ones take longer."""
    (first_at, before), (last_at, now) = done[0], done[-1]
    rate = (now - before) / (last_at - first_at) if last_at > first_at else None
    eta_s = (total - now) / rate if rate else None
    return Progress("prompt", "tokens", now, total, rate, eta_s)
