"""How often each routed expert is chosen: counts from runs, for the planner to fill GPUs with the
busier end of a layer's experts. Kernels take one range of them, so that busy ones in the middle of
a layer come with all before or behind them, or not at all.

A file is JSON, counts of one kind throughout (tokens that chose the expert):

    {"version": 1, "layers": {"3": [812, 40, ...], "4": [...]}}

Keys are block numbers, each list has one count for every expert of the model, in file order. Blocks
that are not named, or whose counts are all 0, are taken to choose evenly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from placement.errors import RequestError
from placement.inventory import ModelInventory

STATS_VERSION = 1
EXAMPLE = '{"version": 1, "layers": {"3": [812, 40, ...]}}, one count for every expert'


@dataclass(frozen=True, slots=True)
class ExpertStats:
    """Shares of all choices, summed up.

    sums   per block named: sums[k] of experts 0 .. k-1, from 0 to 1; one more than experts
    """

    sums: Mapping[int, tuple[float, ...]]

    def share(self, layer: int, first: int, last: int, experts: int) -> float:
        """Share of the block's choices that fall on the experts first..last, of `experts`."""
        sums = self.sums.get(layer)
        if sums is None:
            return (last + 1 - first) / max(experts, 1)
        return sums[last + 1] - sums[first]


EVEN = ExpertStats({})


def parse_stats(value: object, inventory: ModelInventory) -> ExpertStats:
    """The statistics of a parsed JSON file for this model. Raises RequestError for the first entry
    that is wrong.
    """
    if not isinstance(value, dict) or not isinstance(value.get("layers"), dict):
        raise _wrong("it has no `layers`")
    if value.get("version") != STATS_VERSION:
        raise _wrong(f"its version is {str(value.get('version'))[:20]}, not {STATS_VERSION}")
    sums = {}
    for key, counts in value["layers"].items():
        layer = _layer(key, inventory)
        total = _checked(layer, counts, inventory.shape.expert_count)
        if total > 0:
            so_far = list(accumulate((count / total for count in counts), initial=0.0))
            # rounding must not leave a share of nothing in RAM
            sums[layer] = (*(min(share, 1.0) for share in so_far[:-1]), 1.0)
    return ExpertStats(sums)


def _layer(key: str, inventory: ModelInventory) -> int:
    layers = inventory.shape.layers
    if not (key.isascii() and key.isdecimal() and len(key) < 7 and int(key) < layers):
        raise _wrong(f"{key[:20]!r} is not a block of this model, which has 0 to {layers - 1}")
    return int(key)


def _checked(layer: int, counts: object, experts: int) -> float:
    """The sum of one block's counts."""
    if not isinstance(counts, list) or len(counts) != experts:
        found = f"{len(counts)} counts" if isinstance(counts, list) else "no list"
        raise _wrong(f"block {layer} has {found}, the model {experts} experts")
    for expert, count in enumerate(counts):
        number = isinstance(count, (int, float)) and not isinstance(count, bool)
        if not number or not 0 <= count < 1e15 or not math.isfinite(count):
            raise _wrong(f"block {layer}, expert {expert}: {str(count)[:20]} is not a count")
    return float(sum(counts))


def _wrong(what: str) -> RequestError:
    return RequestError(f"these are no statistics of this model's experts: {what}", remedy=EXAMPLE)
