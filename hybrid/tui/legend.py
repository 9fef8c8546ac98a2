"""What the glyphs of a view mean, above the keys: of what is drawn there, and of nothing else."""

from collections.abc import Sequence

from hybrid.live.snapshot import CPU_PARTS, GPU_PARTS, DeviceView, Snapshot
from hybrid.tui.devices import has_mark, memory_parts
from hybrid.tui.layers import is_timed
from hybrid.tui.lines import Line, filled, fitted
from hybrid.tui.look import WORDS, Look

MOST_LINES = 2
GAP = "  "
TIMED = tuple(dict.fromkeys((*GPU_PARTS, "shared", *CPU_PARTS)))


def legend(snapshot: Snapshot, width: int, look: Look, view: str) -> list[Line]:
    """On as many lines as it takes, two at most; none for a view without glyphs."""
    parts: list[Line] = []
    if view in ("overview", "devices"):
        parts = _of_bars(snapshot.devices, look)
    if view == "layers" and is_timed(snapshot):
        parts = [_strip(look.heights, "a layer's time, against the longest one's")]
    if view == "experts" and any(sum(layer.usage) for layer in snapshot.layers):
        parts = [_strip(look.shades, "a cell's most chosen expert, in times of an even share")]
    lines: list[Line] = []
    while parts and len(lines) < MOST_LINES:
        line, parts = filled(parts, GAP, width - 1)
        lines.append(fitted([(" ", ""), *line], width))
    return lines


def _strip(glyphs: str, words: str) -> Line:
    return [(glyphs, ""), (f" {words}", "faint")]


def _of_bars(devices: Sequence[DeviceView], look: Look) -> list[Line]:
    """Memory first; a glyph that means something in both bars stands once."""
    glyphs: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    for name in (*_memory_names(devices), *_time_names(devices)):
        glyph = look.mark if name == "mark" else look.glyphs[name]
        glyphs.setdefault(glyph, name)
        said, word = words.setdefault(glyph, []), WORDS.get(name, name)
        if not any(word in other for other in said):
            said.append(word)
    return [
        [(glyph, name), (f" {', '.join(words[glyph])}", "faint")] for glyph, name in glyphs.items()
    ]


def _memory_names(devices: Sequence[DeviceView]) -> list[str]:
    """Of bars that are drawn at all: what no source says has none."""
    shown = [device.memory for device in devices if device.memory.total_bytes]
    names = [name for memory in shown for name, nbytes in memory_parts(memory).items() if nbytes]
    if any(has_mark(memory) for memory in shown):
        names.append("mark")
    last = ("free", "foreign", "mark")
    return sorted(dict.fromkeys(names), key=lambda name: name in last)


def _time_names(devices: Sequence[DeviceView]) -> list[str]:
    spent = {name for device in devices for name, seconds in device.seconds.items() if seconds > 0}
    return [name for name in TIMED if name in spent]
