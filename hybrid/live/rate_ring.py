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
    """Times are of one clock that never goes back, in seconds.

    warm_up   tokens of the first passes, which `stretches` leaves out
    """

    def __init__(self, warm_up: int = 0) -> None:
        self._stamps = [-1] * _SLOTS
        self._tokens = [0.0] * _SLOTS
        self._seconds = [0.0] * _SLOTS
        self._starts = [0.0] * _SLOTS  # summed over the tokens
        self._first: int | None = None  # slot of the first pass
        self._warm_up_left = warm_up
        self._early: dict[int, tuple[float, float, float]] = {}  # of slots: the three sums

    def add(self, end: float, seconds: float, tokens: int, start: int = 0) -> None:
        """A pass over so many tokens, after `start` others, that took `seconds` until `end`."""
        begin = end - seconds
        last = int(end / SLOT_S)
        slot = max(int(begin / SLOT_S), last - _SLOTS + 1)
        if self._first is None:
            self._first = slot
        if slot == last:
            self._add(slot, tokens, seconds, start)
        else:
            for each in range(slot, last + 1):
                inside = min(end, (each + 1) * SLOT_S) - max(begin, each * SLOT_S)
                self._add(each, tokens * inside / seconds, inside, start)
        if self._warm_up_left > 0:
            self._warm_up_left -= tokens
            for each in range(slot, last + 1):  # all that these hold is of the warm-up
                at = each % _SLOTS
                self._early[each] = self._tokens[at], self._seconds[at], self._starts[at]

    def copy(self) -> "RateRing":
        """As it is now, in a few microseconds: what sums are made of while it is written on."""
        made = RateRing.__new__(RateRing)
        made._stamps, made._tokens = self._stamps.copy(), self._tokens.copy()
        made._seconds, made._starts = self._seconds.copy(), self._starts.copy()
        made._first = self._first
        made._warm_up_left, made._early = self._warm_up_left, self._early.copy()
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
        """What `rate` is the rate of, oldest first, without the warm-up."""
        last = int(now / SLOT_S)
        found = []
        for slot in range(last - int(last_s / SLOT_S), last + 1):
            at = slot % _SLOTS
            if self._stamps[at] == slot:
                sums = self._tokens[at], self._seconds[at], self._starts[at]
                early = self._early.get(slot, (0.0, 0.0, 0.0))
                tokens, seconds, starts = (its - of for its, of in zip(sums, early, strict=True))
                if tokens > 0.0:
                    found.append(Stretch(round(starts / tokens), tokens, seconds))
        return tuple(found)

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
