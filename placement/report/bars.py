"""Each device's memory as a bar of characters: one glyph per category, dots for what is left.

    CPU    ████████████████████████████████████████████▚▞········   333.2 of 512.0 GiB
    CUDA0  ▓▓▓▚▚▒████████████████░░▞▞▞·························    16.3 of 23.0 GiB
    █ routed  ▓ attention  ...

Every bar is as long as its device's budget, whatever that is: the picture shows what fills it.
"""

from collections.abc import Sequence

from placement.report.device_memory import CATEGORIES, DeviceMemory, alike

BLOCKS = {
    "attention": "▓",
    "dense": "▚",
    "shared": "▒",
    "routed": "█",
    "embed+head": "▌",
    "cache": "░",
    "compute": "▞",
    "other": "▄",
    "free": "·",
}
LETTERS = {
    "attention": "A",
    "dense": "D",
    "shared": "S",
    "routed": "R",
    "embed+head": "E",
    "cache": "K",
    "compute": "C",
    "other": "O",
    "free": ".",
}
LEAST_CELLS, MOST_CELLS = 10, 80


def can_show_blocks(encoding: str | None) -> bool:
    """Whether a stream of this encoding takes the block characters."""
    try:
        "".join(BLOCKS.values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar_lines(
    memory: Sequence[DeviceMemory], width: int, glyphs: dict[str, str] = BLOCKS
) -> list[str]:
    """One line per device that may hold anything, many alike in one; and the legend.

    width    columns that a line may take
    glyphs   BLOCKS or LETTERS
    """
    shown = [device for device in memory if device.budget_bytes or device.total_bytes]
    sizes = [device.text for device in shown]
    ends = max(map(len, sizes))
    cells = _cells(max(len(d.name) for d in shown), ends, width)
    alone = alike([(d.name, _bar(d, cells, glyphs), s) for d, s in zip(shown, sizes, strict=True)])
    names = max(len(name) for name, _ in alone)
    cells = _cells(names, ends, width)
    lines = [
        f"{name:{names}}  {_bar(shown[first], cells, glyphs)}  {sizes[first]:>{ends}}"
        for name, first in alone
    ]
    used = {name for device in shown for name, nbytes in device.parts if nbytes}
    legend = [f"{glyphs[name]} {name}" for name in CATEGORIES if name in used]
    return [*lines, *_wrapped(legend or ["nothing is held"], width)]


def _cells(names: int, ends: int, width: int) -> int:
    return min(max(width - names - ends - 4, LEAST_CELLS), MOST_CELLS)


def _bar(device: DeviceMemory, cells: int, glyphs: dict[str, str]) -> str:
    return "".join(glyphs[name] * count for name, count in bar_cells(device, cells))


def bar_cells(device: DeviceMemory, cells: int) -> list[tuple[str, int]]:
    """(category, cells) of a bar, what is free last; the cells sum to `cells`.

    Borders are rounded, not lengths, so that no category pushes another one.
    """
    whole = max(device.budget_bytes, device.total_bytes, 1)
    counts, end, drawn = [], 0, 0
    for name, nbytes in device.parts:
        end += nbytes
        border = (2 * end * cells + whole) // (2 * whole)
        counts.append((name, border - drawn))
        drawn = border
    return [*((name, count) for name, count in counts if count), ("free", cells - drawn)]


def _wrapped(words: Sequence[str], width: int) -> list[str]:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 2 <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines
