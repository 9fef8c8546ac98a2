"""Left-over VRAM filled with routed experts by time saved per byte.

    step     so many more bytes of one layer's experts at its home, and the ticks that saves
    steps    of a layer, each dearer per byte than the one before: the upper hull of what ranges
             from either end of its experts save; evenly chosen experts have one step, all of them
    fill     steps of all layers at a home, the best first, while they fit; then one layer's range
             into what is left

A home's kernels take one range of experts there and one in RAM, so that a range begins with the
first expert or ends with the last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from placement.cost.expert_stats import ExpertStats
from placement.solve.demand import BlockDemand

TICKS_PER_SECOND = 10**9  # whole numbers, so that sums do not depend on their order
LONGEST_S = 86400.0
FALLEN = 5_000_000  # ticks of a block that is left to the reference, at least
NOISE = 20_000  # ticks: a whole layer that loses less is better on its GPU than in RAM
LEAST_PART = 16  # a range has one in so many of a layer's experts at least: less is not worth it
RANGES_TRIED = 16  # of a layer with statistics, evenly spaced

Seconds = Callable[[int, float], float]  # of a layer's experts with a share of choices in RAM


@dataclass(frozen=True, slots=True)
class Step:
    """Of one layer: from the experts that the steps before it put at home to `experts` of them.

    tier   0: the layer's first
    """

    nbytes: int
    gain: int
    tier: int
    experts: int


NO_PART = Step(0, 0, 0, 0)


@dataclass(slots=True)
class Kind:
    """Layers with the same step.

    before   of the first i layers of the order, how many have it
    """

    step: Step
    layers: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a fill comes to.

    experts   (first, last) at home by layer
    """

    gain: int
    nbytes: int
    experts: Mapping[int, tuple[int, int]]


def ticks(seconds: float) -> int:
    """Whole ticks; of a machine that takes years a day's are enough."""
    return round(min(seconds, LONGEST_S) * TICKS_PER_SECOND)


def bytes_of(block: BlockDemand, experts: int) -> int:
    """Bytes of so many experts from either end, at most."""
    if experts == block.experts:
        return sum(block.expert_nbytes)
    return sum(-(-nbytes * experts // block.experts) for nbytes in block.expert_nbytes)


def best_end(stats: ExpertStats, layer: int, block: BlockDemand, experts: int) -> tuple[int, int]:
    """The range of so many experts from one end that is chosen more often."""
    low, high = (0, experts - 1), (block.experts - experts, block.experts - 1)
    shares = [stats.share(layer, *part, block.experts) for part in (low, high)]
    return high if shares[1] > shares[0] else low


class Shelf:
    """The experts that one home may take.

    blocks   of the model
    order    layers whose homes are to be found, in order
    seconds  of a layer's experts at this home
    forced   also where they save nothing, for a host whose RAM is short
    """

    def __init__(
        self,
        blocks: Sequence[BlockDemand],
        order: Sequence[int],
        stats: ExpertStats,
        seconds: Seconds,
        *,
        forced: bool = False,
    ) -> None:
        self._blocks, self._stats, self._seconds = blocks, stats, seconds
        self._forced = forced
        self._gains: dict[tuple[int, int], int] = {}
        kinds: dict[tuple[object, ...], Kind] = {}
        for layer, block in enumerate(blocks):
            for step in self._steps(layer, block):
                # layers of one kind share the table of what parts of them save
                key = (step, block.whole, block.expert_nbytes, layer in stats.sums and layer)
                kinds.setdefault(key, Kind(step)).layers.append(layer)
        self._kinds = sorted(
            kinds.values(), key=lambda kind: -kind.step.gain / max(kind.step.nbytes, 1)
        )
        for kind in self._kinds:
            here, kind.before = set(kind.layers), [0]
            for layer in order:
                kind.before.append(kind.before[-1] + (layer in here))

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for homes that take the same steps."""
        return tuple((kind.step, tuple(kind.layers)) for kind in self._kinds)

    def most(self, layer: int) -> int:
        """Bytes of all steps of a layer."""
        return sum(kind.step.nbytes for kind in self._kinds if layer in kind.layers)

    def away_share(self, layer: int, ruled_home: Sequence[str]) -> float:
        """Share of choices computed elsewhere while open experts are in RAM.

        ruled_home   devices of rules that are this home
        """
        block = self._blocks[layer]
        here = sum(
            self._stats.share(layer, first, last, block.experts)
            for first, last, device in block.ruled_experts
            if device in ruled_home
        )
        return max(1.0 - here, 0.0)

    def gain(self, run: tuple[int, int], fixed: Sequence[int], room: int) -> tuple[int, int]:
        """(ticks saved, bytes taken) by layers order[run[0]:run[1]] and the layers `fixed`."""
        saved, left, blocked = 0, room, False
        partial: list[int] = []
        for kind in self._kinds:
            there = kind.before[run[1]] - kind.before[run[0]]
            if fixed:
                there += sum(layer in kind.layers for layer in fixed)
            step = kind.step
            if not there or (blocked and step.tier):
                continue
            taken = min(there, left // step.nbytes)
            saved += taken * step.gain
            left -= taken * step.nbytes
            if taken < there:
                blocked = True
                if not step.tier and self._blocks[kind.layers[0]].whole:
                    partial.append(kind.layers[0])
        part = max((self._part(layer, left) for layer in partial), key=self._merit, default=NO_PART)
        return saved + part.gain, room - left + part.nbytes

    def filled(self, layers: Sequence[int], room: int) -> Filled:
        """The fill of these layers, the last of a kind first."""
        experts: dict[int, int] = {}
        saved, left, blocked = 0, room, False
        partial: list[int] = []
        for kind in self._kinds:
            there = [layer for layer in kind.layers if layer in layers]
            step = kind.step
            if not there or (blocked and step.tier):
                continue
            taken = min(len(there), left // step.nbytes)
            experts |= dict.fromkeys(there[len(there) - taken :], step.experts)
            saved += taken * step.gain
            left -= taken * step.nbytes
            if taken < len(there):
                blocked = True
                if not step.tier and self._blocks[there[0]].whole:
                    partial.append(there[len(there) - taken - 1])
        if partial:
            layer = max(partial, key=lambda layer: self._merit(self._part(layer, left)))
            part = self._part(layer, left)
            if part.experts:
                experts[layer] = part.experts
                saved, left = saved + part.gain, left - part.nbytes
        return Filled(saved, room - left, {n: self._range(n, k) for n, k in experts.items()})

    def _range(self, layer: int, experts: int) -> tuple[int, int]:
        block = self._blocks[layer]
        if not block.whole:
            assert block.open_range is not None
            return block.open_range
        return best_end(self._stats, layer, block, experts)

    def _merit(self, part: Step) -> tuple[int, int]:
        return (part.nbytes, part.gain) if self._forced else (part.gain, part.nbytes)

    def _part(self, layer: int, room: int) -> Step:
        """As many experts of one layer as fit."""
        block = self._blocks[layer]
        count = min(room // max(block.expert_bytes, 1), block.experts - 1)
        while count and bytes_of(block, count) > room:
            count -= 1
        least = 1 if self._forced else -(-block.experts // LEAST_PART)
        if count < least:
            return NO_PART
        gain = self._saved(layer, count)
        if gain <= 0 and not self._forced:
            return NO_PART
        return Step(bytes_of(block, count), gain, 0, count)

    def _steps(self, layer: int, block: BlockDemand) -> list[Step]:
        if block.open_range is None or not block.open_bytes:
            return []
        if not block.whole:
            first, last = block.open_range
            share = self._stats.share(layer, first, last, block.experts)
            before = ticks(self._seconds(layer, 1.0))
            # in RAM they are one range and the rule's another, which no GPU's own kernels take
            gain = before - ticks(self._seconds(layer, 1.0 - share)) + FALLEN
            return self._worth([Step(block.open_bytes, gain, 0, last + 1 - first)])
        counts = [block.experts]
        if layer in self._stats.sums:
            spaced = {block.experts * i // RANGES_TRIED for i in range(1, RANGES_TRIED + 1)}
            counts = sorted(spaced - {0})
        points = [(bytes_of(block, count), self._saved(layer, count), count) for count in counts]
        return self._worth(_hull(points))

    def _worth(self, steps: list[Step]) -> list[Step]:
        return [step for step in steps if self._forced or step.gain > 0]

    def _saved(self, layer: int, experts: int) -> int:
        """Ticks saved by so many experts of a layer at home, the others in RAM."""
        if (layer, experts) not in self._gains:
            block = self._blocks[layer]
            part = best_end(self._stats, layer, block, experts)
            share = self._stats.share(layer, *part, block.experts)
            away = 0.0 if experts == block.experts else max(1.0 - share, 0.0)
            saved = ticks(self._seconds(layer, 1.0)) - ticks(self._seconds(layer, away))
            if experts == block.experts and saved > -NOISE:
                saved = max(saved, 1)
            self._gains[layer, experts] = saved
        return self._gains[layer, experts]


def _hull(points: Sequence[tuple[int, int, int]]) -> list[Step]:
    """Steps along the upper hull of (bytes, ticks saved, experts), from nothing to all of them."""
    hull = [(0, 0, 0)]
    for point in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [
        Step(after[0] - before[0], after[1] - before[1], tier, after[2])
        for tier, (before, after) in enumerate(zip(hull, hull[1:], strict=False))
    ]


def _slope(before: tuple[int, int, int], after: tuple[int, int, int]) -> float:
    return (after[1] - before[1]) / max(after[0] - before[0], 1)
