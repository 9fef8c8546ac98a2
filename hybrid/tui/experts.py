"""How often each expert was chosen, against an even share.

One line: a column per layer under the layer strip's, as high as the share of its busiest tenth.
More: a row per layer, a column per expert. Where several layers or experts share a cell it shows
the hottest of them: their mean would always look even.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from heapq import nlargest

from hybrid.live.snapshot import LayerView, Snapshot
from hybrid.tui.amounts import count, percent
from hybrid.tui.bars import coloured, folded, heights
from hybrid.tui.layers import MOST_CELLS, NAME, columns
from hybrid.tui.lines import Line, fitted, joined
from hybrid.tui.look import Look, heat_name

HOT = 0.1  # the part of all experts that the key tells the share of
STEPS = (1.0, 2.0, 4.0, 8.0)  # times an even share: borders of the shades
SHADE_HEATS = tuple(heat_name(shade / (len(STEPS) + 1)) for shade in range(len(STEPS) + 1))


def experts(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """Layers folded to the height, experts to the width; the last line says what that means."""
    counted = [layer for layer in snapshot.layers if layer.usage and sum(layer.usage)]
    cells = width - NAME
    if not counted or cells < 8 or height < 1:
        return []
    if height < 3:
        lines = [_busiest(snapshot.layers, width, look), _key(counted, width, look)][:height]
        return [fitted(line, width) for line in lines]
    wide = min(max(cells // max(len(layer.usage) for layer in counted), 1), MOST_CELLS)
    lines = [_row(counted, group, cells, wide, look) for group in folded(len(counted), height - 1)]
    return [fitted(line, width) for line in [*lines, _key(counted, width, look)]]


def rows(snapshot: Snapshot) -> int:
    counted = sum(1 for layer in snapshot.layers if layer.usage)
    return counted + 1 if counted else 0


def _busiest(shown: Sequence[LayerView], width: int, look: Look) -> Line:
    """The share of each layer's busiest tenth, columns as in the layer strip."""
    groups, wide = columns(len(shown), width)
    values = [
        max((hot_share(shown[index].usage) for index in group if shown[index].usage), default=0.0)
        for group in groups
        for _ in range(wide)
    ]
    names = [heat_name(value or None) for value in values]
    return [(f"{'top 10 %':{NAME}}", ""), *coloured(heights(values, 1.0, look), names)]


def _row(counted: Sequence[LayerView], group: range, cells: int, wide: int, look: Look) -> Line:
    first, last = counted[group.start].index, counted[group.stop - 1].index
    title = f"layer {first}" if first == last else f"{first}-{last}"
    heats = [hottest(counted[index].usage, cells) for index in group]
    shades = [shade for shade in map(max, zip(*heats, strict=False)) for _ in range(wide)]
    text = "".join([look.shades[shade] for shade in shades])
    return [(f"{title:{NAME}}", "faint"), *coloured(text, [SHADE_HEATS[each] for each in shades])]


@lru_cache(maxsize=512)
def hottest(usage: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """The shade of each cell's most chosen expert: how many of STEPS it reaches."""
    even = sum(usage) / len(usage)
    borders = [step * even for step in STEPS]
    tops = [max(usage[group.start : group.stop]) for group in folded(len(usage), cells)]
    return tuple([bisect_right(borders, top) if top else 0 for top in tops])


@lru_cache(maxsize=512)
def hot_share(usage: tuple[int, ...]) -> float:
    """The share of all choices that the most chosen tenth of the experts has."""
    hot = max(int(len(usage) * HOT + 0.5), 1)
    return sum(nlargest(hot, usage)) / max(sum(usage), 1)


def _key(counted: Sequence[LayerView], width: int, look: Look) -> Line:
    shares = [hot_share(layer.usage) for layer in counted]
    never = sum(layer.usage.count(0) for layer in counted)
    everything = sum(len(layer.usage) for layer in counted)
    texts = [
        f"the busiest tenth takes {percent(sum(shares) / len(shares))} (even: {percent(HOT)})",
        f"never chosen {never} of {everything}",
        f"{count(sum(sum(layer.usage) for layer in counted))} choices",
        f"{look.shades} below 1, 2, 4, 8 times an even share, and above",
    ]
    line = joined(([(text, "faint")] for text in texts), look.join, width - NAME)
    return [(" " * NAME, ""), *line]
