"""One chain's one-token step with stamps between its parts, and what they say.

    stamp │ begin │ stamp │ attention │ stamp │ router │ stamp │ experts │ stamp │ receive │ stamp
                            └──────────── every block ──────────────────────────────────┘
    ... head │ stamp │ copy of its logits │ stamp, stamp ... of nothing: the most a stamp costs

The graph with stamps is captured beside the one without, at load: nothing is taken of the GPU
later. It is replayed for one token of so many (`hybrid.runtime.timing`). What a stamp costs is
taken out of what it says: what one of nothing takes, or half of it where kernels start before
those in front have ended. There it is something between that and nothing (docs/log.md).
`receive` holds both the wait for the CPU and the crossing:

    crossing    from the post to the end of receive, less the CPU's time: half there, half back.
                The way there passes while the GPU computes shared experts, the rest is in receive

The launches also count experts: of the tokens that take this graph only.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.runtime.gpu.replay import Replay
from hybrid.runtime.gpu.step import Mark
from kernels.stamp import stamp

CLOSING = 8  # stamps of nothing at the end
LATELY, FEWEST_PAIRS = 16, 4  # steps
STARTS_EARLY = (9, 0)  # compute capability from which kernels do
MARKS = 4  # of a block
# What ended at a stamp -> the part of a device's time that it is.
PART_OF = {
    "begin": "crossing",
    "attention": "attention",
    "router": "experts",
    "experts": "experts",
    "dense": "dense",
    "receive": "waiting",
    "head": "head",
    "copied": "crossing",
}
NO_LAYER = -1


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds of one step between its stamps.

    parts         sums, without the stamps' own cost
    cost_s        of all stamps, and of launching them
    attention_s   [blocks]
    experts_s     [blocks] all behind attention, of blocks with a router; NaN for others
    """

    parts: dict[str, float]
    cost_s: float
    attention_s: NDArray[np.float64]
    experts_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ran:
    """A step as the host saw it: seconds until it was launched, and from there to its end."""

    launch_s: float
    run_s: float


class StampCost:
    """What stamps add to a step.

    share   of what a stamp of nothing takes: of one between two parts

    The step as a whole is learned from those that were listened to lately, each compared with the
    one just before it: how long steps take wanders, on a virtual machine by more than stamps.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._before: Ran | None = None
        self._pairs: deque[tuple[Ran, Ran]] = deque(maxlen=LATELY)  # without stamps, with them
        self._of_nothing: deque[float] = deque(maxlen=LATELY)
        self._stamps = 0  # of a step

    def plain(self, ran: Ran) -> None:
        """A step without stamps."""
        self._before = ran

    def stamped(self, ran: Ran, stamps: int, of_nothing_s: float) -> None:
        """A step with so many."""
        self._of_nothing.append(of_nothing_s)
        self._stamps = stamps
        before, self._before = self._before, None
        if before is not None:
            self._pairs.append((before, ran))

    @property
    def seconds(self) -> float:
        """Of one stamp, on the GPU."""
        return self._share * median(self._of_nothing)

    @property
    def step_s(self) -> float:
        """Of a step, all in all. A graph that ran last a while ago is launched more slowly, but the
        GPU begins before its launch returns, and where it waits for the CPU stamps cost nothing: so
        steps are compared whole.
        """
        if len(self._pairs) < FEWEST_PAIRS:
            return self.seconds * self._stamps
        launch_s = max(self._longer_s(lambda ran: ran.launch_s), 0.0)
        most = median(self._of_nothing) * self._stamps + launch_s
        return min(max(self._longer_s(lambda ran: ran.launch_s + ran.run_s), 0.0), most)

    def _longer_s(self, of: Callable[[Ran], float]) -> float:
        return median([of(stamped) - of(plain) for plain, stamped in self._pairs])


class Stamps:
    """The stamps of one chain.

    first    number of its first block in the model
    blocks   how many it has
    usage    int32 [blocks of the model, experts] on the GPU: choices so far
    """

    def __init__(self, device: torch.device, first: int, blocks: int, usage: Tensor) -> None:
        slots = slots_of(blocks)
        self._first, self._blocks, self._usage = first, blocks, usage
        self._times = torch.zeros(slots, dtype=torch.int64, device=device)
        self._host = torch.zeros(slots, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._ended: list[tuple[int, str]] = []
        early = device.type == "cuda" and torch.cuda.get_device_capability(device) >= STARTS_EARLY
        self.cost = StampCost(0.5 if early else 1.0)

    def begin(self) -> None:
        self._ended = []
        stamp(self._times, 0, implementation="gpu")

    def mark(self, layer: int, what: str, chosen: Tensor | None = None) -> None:
        """`what` has ended, of a block of this chain or of none.

        chosen   its experts, to be counted
        """
        self._ended.append((layer, what))
        usage = None if chosen is None else self._usage[self._first + layer]
        stamp(self._times, len(self._ended), chosen, usage, implementation="gpu")

    def of(self, layer: int) -> Mark:
        return partial(self.mark, layer)

    def end(self) -> None:
        last = len(self._ended)
        for number in range(1, CLOSING + 1):
            stamp(self._times, last + number, implementation="gpu")
        self._host.copy_(self._times, non_blocking=True)

    def spans(self, computed_s: Sequence[float], ran: Ran) -> Spans:
        """Of the step that is done.

        computed_s   the CPU's time with each crossing
        ran          the step as the host saw it
        """
        count = len(self._ended)
        times = self._host.numpy()[: count + 1 + CLOSING]
        of_nothing_s = float(times[-1] - times[count]) * 1e-9 / CLOSING
        self.cost.stamped(ran, len(times), of_nothing_s)
        cost_s = self.cost.seconds
        spent = np.maximum(np.diff(times[: count + 1]) * 1e-9 - cost_s, 0.0)
        layers = np.array([layer for layer, _ in self._ended])
        whats = np.array([what for _, what in self._ended])
        parts: dict[str, float] = {}
        for what, part in PART_OF.items():
            if (found := whats == what).any():
                parts[part] = parts.get(part, 0.0) + float(spent[found].sum())
        if computed_s:
            crossing_s = _crossing_s(spent, whats == "receive", whats == "router", computed_s)
            parts["crossing"] += crossing_s
            parts["waiting"] -= crossing_s
        in_attention = whats == "attention"
        behind = (layers != NO_LAYER) & ~in_attention
        experts_s = self._by_block(layers[behind], spent[behind])
        routed = np.isin(np.arange(self._blocks), layers[whats == "router"])
        experts_s[~routed] = np.nan
        attention_s = self._by_block(layers[in_attention], spent[in_attention])
        return Spans(parts, self.cost.step_s, attention_s, experts_s)

    def _by_block(
        self, layers: NDArray[np.int64], spent: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        sums = np.zeros(self._blocks)
        np.add.at(sums, layers, spent)
        return sums


@dataclass(frozen=True, slots=True)
class StampedStep:
    """A step of one token with stamps."""

    replay: Replay
    stamps: Stamps


def slots_of(blocks: int) -> int:
    """Of the first stamp, those of the input, the head and its logits' copy, and the others."""
    return 1 + 3 + MARKS * blocks + CLOSING


def _crossing_s(
    spent: NDArray[np.float64],
    receives: NDArray[np.bool_],
    routers: NDArray[np.bool_],
    computed_s: Sequence[float],
) -> float:
    """What of the waits in `receive` is bytes on their way."""
    at = np.flatnonzero(receives)
    stalled = spent[at]
    beside = np.where(routers[at - 1], 0.0, spent[at - 1])
    under_way = np.maximum(stalled + beside - np.asarray(computed_s), 0.0)
    seen = under_way - np.minimum(beside, under_way / 2)
    return float(np.minimum(stalled, seen).sum())
