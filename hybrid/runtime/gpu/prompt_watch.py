"""What a block's pass over a prompt tells of itself: attention, feed-forward, chosen experts.

A real GPU's work is timed by its own events, which are read once the pass is done. Where nothing
waited for the GPU by then (all micro-batches of a prompt but the last), nobody hears of the pass:
waiting for it would cost more than it tells.
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from hybrid.runtime.crossing import Place
from hybrid.runtime.ledger import Ledger
from hybrid.runtime.stats import Meter
from kernels.stamp import count

PLACES = 3  # the block's beginning, after attention, its end


class Clock(Protocol):
    def stamp(self, place: int) -> None: ...

    def spans(self) -> list[float] | None:
        """Seconds between the places; None while the device is not past the last one."""
        ...


class EventClock:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(PLACES)]  # type: ignore[no-untyped-call]

    def stamp(self, place: int) -> None:
        self._events[place].record(torch.cuda.current_stream(self._device))

    def spans(self) -> list[float] | None:
        if not self._events[-1].query():
            return None
        pairs = zip(self._events[:-1], self._events[1:], strict=True)
        return [begin.elapsed_time(end) * 1e-3 for begin, end in pairs]


class HostClock:
    def __init__(self) -> None:
        self._times = [0.0] * PLACES

    def stamp(self, place: int) -> None:
        self._times[place] = perf_counter()

    def spans(self) -> list[float] | None:
        pairs = zip(self._times[:-1], self._times[1:], strict=True)
        return [end - begin for begin, end in pairs]


class Unwatched:
    """Of a block that nobody asks about."""

    def began(self) -> None: ...

    def attended(self) -> None: ...

    def fed(self, part: str) -> None:
        """part   "experts" or "dense" """

    def chose(self, chosen: Tensor) -> None: ...

    def away(self, op: Callable[..., Tensor], *given: Any) -> Tensor:
        """op(*given), which computes in RAM."""
        return op(*given)


UNWATCHED = Unwatched()


class PromptWatch(Unwatched):
    """Of one block.

    usage   int32 [experts] on the GPU: choices so far
    """

    def __init__(self, home: Place, layer: int, meter: Meter, usage: Tensor) -> None:
        device = home.torch_device
        self._home, self._layer, self._meter, self._usage = home, layer, meter, usage
        self._clock: Clock = EventClock(device) if device.type == "cuda" else HostClock()
        self._away_s = 0.0

    def began(self) -> None:
        self._away_s = 0.0
        self._stamp(0)

    def attended(self) -> None:
        self._stamp(1)

    def fed(self, part: str) -> None:
        self._stamp(2)
        if self._meter.ledger is not None:
            self._meter.ledger.later(partial(self._tell, part))

    def chose(self, chosen: Tensor) -> None:
        if self._meter.counts:
            count(chosen, self._usage, implementation="gpu")

    def away(self, op: Callable[..., Tensor], *given: Any) -> Tensor:
        if self._meter.ledger is None:
            return op(*given)
        began = perf_counter()
        with self._meter.part("experts"):
            result = op(*given)
        self._away_s += perf_counter() - began
        return result

    def _stamp(self, place: int) -> None:
        if self._meter.ledger is not None:
            self._clock.stamp(place)

    def _tell(self, part: str, ledger: Ledger) -> None:
        spans = self._clock.spans()
        if spans is None:
            ledger.whole = False
            return
        attention_s, fed_s = spans
        parts = {"attention": attention_s, part: max(fed_s - self._away_s, 0.0)}
        ledger.divide(self._home.name, parts)
        ledger.layers(self._layer, [attention_s], [fed_s if part == "experts" else None])
