"""How often each expert was chosen, against an even share.

One line: a column per layer under the layer strip's, as high as the share of its busiest tenth.
More: a row per layer, a column per expert. Where several layers or experts share a cell it shows
the hottest of them: their mean would always look even.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import nlargest

from hybrid.live.snapshot import Snapshot
from hybrid.tui.amounts import count, percent
from hybrid.tui.bars import coloured, folded, heights
from hybrid.tui.layers import MOST_CELLS, NAME, columns
from hybrid.tui.lines import Line, fitted, joined
from hybrid.tui.look import Look, heat_name

HOT = 0.1  # the part of all experts that the key tells the share of
BORDERS = (0.4, 0.7, 0.9, 0.97)  # of all cells that are shown: as many are below each shade
SHADE_HEATS = ("faint", *(heat_name(shade / len(BORDERS)) for shade in range(len(BORDERS))))


@dataclass(frozen=True, slots=True)
class Counted:
    """A layer whose experts were chosen at all."""

    index: int
    usage: tuple[int, ...]


def experts(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """Layers folded to the height, experts to the width; the last line says what that means."""
    if width - NAME < 8 or height < 1:
        return []
    usages = tuple([layer.usage for layer in snapshot.layers])
    first = snapshot.layers[0].index if snapshot.layers else 0
    return list(_panel(usages, first, (width, height), look))


@lru_cache(maxsize=4)
def _panel(
    usages: tuple[tuple[int, ...], ...], first: int, size: tuple[int, int], look: Look
) -> tuple[Line, ...]:
    """Kept as long as no count changes. first   the number of the first of these layers"""
    counted = [Counted(first + at, usage) for at, usage in enumerate(usages) if sum(usage)]
    width, height = size
    if not counted:
        return ()
    if height < 3:
        lines = [_busiest(usages, width, look), _key(counted, width, look)][:height]
    else:
        lines = _map(counted, width, height - 1, look)
    return tuple([fitted(line, width) for line in lines])


def _map(counted: Sequence[Counted], width: int, rows: int, look: Look) -> list[Line]:
    cells = width - NAME
    wide = min(max(cells // max(len(layer.usage) for layer in counted), 1), MOST_CELLS)
    groups = folded(len(counted), rows)
    heats = [_heats(counted, group, cells) for group in groups]
    borders = _borders(heats)
    lines = [
        _row(_title(counted, group), row, borders, wide, look)
        for group, row in zip(groups, heats, strict=True)
    ]
    return [*lines, _key(counted, width, look, borders)]


def levels(snapshot: Snapshot, most: int) -> list[int]:
    """Heights up to `most` that it has a use for, ascending: rows of as many layers each."""
    counted = sum(1 for layer in snapshot.layers if layer.usage)
    if not counted:
        return []
    whole = {-(-counted // each) + 1 for each in range(1, counted + 1)}
    return sorted(height for height in {1, 2, *whole} if height <= max(most, 1))


def _busiest(usages: Sequence[tuple[int, ...]], width: int, look: Look) -> Line:
    """The share of each layer's busiest tenth, columns as in the layer strip."""
    groups, wide = columns(len(usages), width)
    values = [
        max((hot_share(usages[index]) for index in group if usages[index]), default=0.0)
        for group in groups
        for _ in range(wide)
    ]
    names = [heat_name(value or None) for value in values]
    return [(f"{'top 10 %':{NAME}}", ""), *coloured(heights(values, 1.0, look), names)]


def _heats(counted: Sequence[Counted], group: range, cells: int) -> list[float]:
    heats = [hottest(counted[index].usage, cells) for index in group]
    return [max(column) for column in zip(*heats, strict=False)]


def hottest(usage: tuple[int, ...], cells: int) -> tuple[float, ...]:
    """Of each cell's experts the most chosen one: how many times an even share."""
    even = sum(usage) / len(usage) or 1.0
    return tuple(
        [max(usage[group.start : group.stop]) / even for group in folded(len(usage), cells)]
    )


def _borders(rows: Sequence[Sequence[float]]) -> list[float]:
    """Where one shade ends: from what is shown, as the hottest of many is always hot."""
    values = sorted([value for row in rows for value in row])
    return [values[int(len(values) * border)] for border in BORDERS]


def _title(counted: Sequence[Counted], group: range) -> str:
    first, last = counted[group.start].index, counted[group.stop - 1].index
    return f"layer {first}" if first == last else f"{first}-{last}"


def _row(
    title: str, heats: Sequence[float], borders: Sequence[float], wide: int, look: Look
) -> Line:
    shades = [bisect_left(borders, heat) for heat in heats for _ in range(wide)]
    text = "".join([look.shades[shade] for shade in shades])
    return [(f"{title:{NAME}}", "faint"), *coloured(text, [SHADE_HEATS[each] for each in shades])]


@lru_cache(maxsize=128)
def hot_share(usage: tuple[int, ...]) -> float:
    """The share of all choices that the most chosen tenth of the experts has."""
    hot = max(int(len(usage) * HOT + 0.5), 1)
    return sum(nlargest(hot, usage)) / max(sum(usage), 1)


def _key(counted: Sequence[Counted], width: int, look: Look, borders: Sequence[float] = ()) -> Line:
    shares = [hot_share(layer.usage) for layer in counted]
    never = sum(layer.usage.count(0) for layer in counted)
    everything = sum(len(layer.usage) for layer in counted)
    steps = " ".join(
        f"{glyph} {border:.1f}" for glyph, border in zip(look.shades, borders, strict=False)
    )
    texts = [
        f"busiest tenth {percent(sum(shares) / len(shares))} of choices",
        f"{steps} {look.shades[-1]} times even" if borders else "",
        f"never chosen {never} of {everything}",
        f"{count(sum(sum(layer.usage) for layer in counted))} choices",
    ]
    line = joined(([(text, "faint")] for text in texts if text), "; ", width - NAME)
    return [(" " * NAME, ""), *line]
