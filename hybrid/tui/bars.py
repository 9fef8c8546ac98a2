"""Bars, gauges, heights and shades: numbers -> spans of exactly so many cells."""

from collections.abc import Mapping, Sequence

from hybrid.tui.lines import Line, fitted
from hybrid.tui.look import Look


def stacked(parts: Mapping[str, float], whole: float, cells: int, look: Look) -> Line:
    """Each part with its glyph, as long as its share of `whole`; blanks for the rest.

    Cells that are left over when all shares are cut to whole cells go to those that lost most.
    """
    if whole <= 0:
        return [(" " * cells, "")]
    exact = {name: max(amount, 0.0) / whole * cells for name, amount in parts.items()}
    exact[""] = max(cells - sum(exact.values()), 0.0)
    counts = {name: int(size) for name, size in exact.items()}
    left = cells - sum(counts.values())
    if left > 0:
        for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:left]:
            counts[name] += 1
    line = [(look.glyphs[name] * count, name) for name, count in counts.items() if name and count]
    if counts[""]:
        line.append((" " * counts[""], ""))
    return fitted(line, cells)


def marked(line: Line, at: int, glyph: str) -> Line:
    """The same cells with `glyph` in place `at`, which must be a cell of it."""
    found: Line = []
    begin = 0
    for text, name in line:
        if begin <= at < begin + len(text):
            inside = at - begin
            pieces = ((text[:inside], name), (glyph, "mark"), (text[inside + 1 :], name))
            found += [piece for piece in pieces if piece[0]]
        else:
            found.append((text, name))
        begin += len(text)
    return found


def gauge(share: float | None, cells: int, look: Look, name: str = "attention") -> Line:
    """Filled up to `share`, which more than 1 fills wholly; an absent one is blank."""
    if share is None:
        return [(" " * cells, "")]
    filled = min(max(round(share * cells), 0), cells)
    spans = ((look.full * filled, name), (look.empty * (cells - filled), "faint"))
    return [span for span in spans if span[0]]


def heights(values: Sequence[float], most: float, look: Look) -> str:
    """One character a value, as high as its share of `most`; a blank for nothing."""
    steps = len(look.heights)
    if most <= 0:
        return " " * len(values)
    return "".join(
        look.heights[min(int(value / most * steps), steps - 1)] if value > 0 else " "
        for value in values
    )


def chart(values: Sequence[float], least: float, most: float, rows: int, look: Look) -> list[str]:
    """The same from `least` to `most` over several rows, the highest first."""
    steps = len(look.heights)
    per_unit = rows * steps / (most - least) if most > least else 0.0
    lines = []
    for row in range(rows - 1, -1, -1):
        levels = [(value - least) * per_unit - row * steps for value in values]
        lines.append("".join(_height(level, row, look) for level in levels))
    return lines


def _height(level: float, row: int, look: Look) -> str:
    if level <= 0:
        return look.heights[0] if row == 0 and level > -1e-9 else " "
    return look.heights[min(int(level), len(look.heights) - 1)]


def coloured(text: str, names: Sequence[str]) -> Line:
    """Each character in the style beside it, neighbours of one style as one span."""
    line: Line = []
    begin = 0
    for index in range(1, len(names) + 1):
        if index == len(names) or names[index] != names[begin]:
            line.append((text[begin:index], names[begin]))
            begin = index
    return line


def folded(count: int, cells: int) -> list[range]:
    """`count` things over at most `cells` cells, as many in each, fewer in the last alone."""
    each = max(-(-count // max(cells, 1)), 1)
    return [range(begin, min(begin + each, count)) for begin in range(0, count, each)]
