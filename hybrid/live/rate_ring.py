"""Tokens of the last minutes in slots of a quarter of a second, each pass spread over the slots
that it took: the rate of any stretch of the past, whether passes take a millisecond or a minute.

A ring of fixed size that is written in about a microsecond; nothing is taken or freed a token.
"""

from dataclasses import dataclass

SLOT_S = 0.25
SLOTS_A_SECOND = 4
HISTORY_S = 240
_SLOTS = (HISTORY_S + 2) * SLOTS_A_SECOND


@dataclass(frozen=True, slots=True)
class Stretch:
    """Passes of a slot, or their parts that lie in it.

    start   tokens in the cache before them, the mean over their tokens
    """

    start: int
    tokens: float
    seconds: float


class RateRing:
    """Times are of one clock that never goes back, in seconds."""

    def __init__(self) -> None:
        self._stamps = [-1] * _SLOTS
        self._tokens = [0.0] * _SLOTS
        self._seconds = [0.0] * _SLOTS
        self._starts = [0.0] * _SLOTS  # summed over the tokens
        self._first: int | None = None  # slot of the first pass

    def add(self, end: float, seconds: float, tokens: int, start: int = 0) -> None:
        """A pass over so many tokens, after `start` others, that took `seconds` until `end`."""
        begin = end - seconds
        last = int(end / SLOT_S)
        slot = max(int(begin / SLOT_S), last - _SLOTS + 1)
        if self._first is None:
            self._first = slot
        if slot == last:
            self._add(slot, tokens, seconds, start)
            return
        while slot <= last:
            inside = min(end, (slot + 1) * SLOT_S) - max(begin, slot * SLOT_S)
            self._add(slot, tokens * inside / seconds, inside, start)
            slot += 1

    def copy(self) -> "RateRing":
        """As it is now, in a few microseconds: what sums are made of while it is written on."""
        made = RateRing.__new__(RateRing)
        made._stamps, made._tokens = self._stamps.copy(), self._tokens.copy()
        made._seconds, made._starts = self._seconds.copy(), self._starts.copy()
        made._first = self._first
        return made

    def rate(self, now: float, last_s: float) -> float | None:
        """Tokens a second of time inside passes, over about the last `last_s`; None without any."""
        last = int(now / SLOT_S)
        return self._rate(last - int(last_s / SLOT_S), last)

    def history(self, now: float) -> tuple[float, ...]:
        """The rate of each whole second since the first pass, oldest first, at most HISTORY_S; 0 of
        one without a pass.
        """
        if self._first is None:
            return ()
        end = int(now)
        begin = max(self._first // SLOTS_A_SECOND, end - HISTORY_S)
        firsts = (second * SLOTS_A_SECOND for second in range(begin, end))
        return tuple(self._rate(slot, slot + SLOTS_A_SECOND - 1) or 0.0 for slot in firsts)

    def stretches(self, now: float, last_s: float) -> tuple[Stretch, ...]:
        """What `rate` is the rate of, oldest first."""
        last = int(now / SLOT_S)
        slots = range(last - int(last_s / SLOT_S), last + 1)
        found = [slot % _SLOTS for slot in slots if self._stamps[slot % _SLOTS] == slot]
        return tuple(
            Stretch(round(self._starts[at] / self._tokens[at]), self._tokens[at], self._seconds[at])
            for at in found
            if self._tokens[at]
        )

    def _add(self, slot: int, tokens: float, seconds: float, start: int) -> None:
        at = slot % _SLOTS
        if self._stamps[at] != slot:
            self._stamps[at] = slot
            self._tokens[at] = self._seconds[at] = self._starts[at] = 0.0
        self._tokens[at] += tokens
        self._seconds[at] += seconds
        self._starts[at] += tokens * start

    def _rate(self, first: int, last: int) -> float | None:
        tokens = seconds = 0.0
        for slot in range(first, last + 1):
            at = slot % _SLOTS
            if self._stamps[at] == slot:
                tokens += self._tokens[at]
                seconds += self._seconds[at]
        return tokens / seconds if seconds > 0.0 else None
