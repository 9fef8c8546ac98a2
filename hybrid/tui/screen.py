"""The whole screen: a Snapshot, a size and a view -> exactly `height` lines of `width` cells.

    overview   header, devices, RAM, tokens/s, layers, experts, generated text, keys
    devices    every device with its sensors, RAM
    layers     the layer strip, the expert strip large, and so on

What a small screen has no room for is left out: panels get their least height in the order of
NEED, a panel without it is dropped; then they grow to what they want in the order shown, the text
last. From TWO_COLUMNS on the panels stand in two columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hybrid.live.snapshot import Snapshot
from hybrid.tui import devices, experts, layers, ram, speed, text
from hybrid.tui.footer import help_lines, keys_line
from hybrid.tui.header import State, header
from hybrid.tui.legend import legend
from hybrid.tui.lines import Line, beside, fitted
from hybrid.tui.look import Look
from hybrid.tui.parts import with_named_parts

VIEWS = ("overview", "devices", "layers", "experts", "text")
PANELS_OF = {
    "devices": ("devices", "ram"),
    "layers": ("layers", "speed"),
    "experts": ("experts",),
    "text": ("text",),
}
TITLES = {
    "devices": "memory, and time of a token",
    "ram": "RAM",
    "speed": "tokens a second",
    "layers": "layers",
    "experts": "experts",
    "text": "text",
}
SHOWN = ("devices", "ram", "speed", "layers", "experts", "text")
NEED = ("devices", "ram", "text", "layers", "speed", "experts")
TWO_COLUMNS = 160
LEGENDS = 20  # lines from which glyphs are explained
SHORT = 30  # lines below which only the rate of the present phase is shown
# Lines from which a panel has a title: those with names in their lines do with less.
TITLED = {"devices": 26, "ram": 26, "layers": 26, "experts": 45, "speed": 45, "text": 0}
LEFT_SHARE = 0.58  # of the devices' column
LEAST_WIDTH, LEAST_HEIGHT = 20, 5
CHART_ROWS, LARGE_CHART_ROWS = 3, 6
PAGE = 1000  # more lines than any terminal has

Draw = Callable[[Snapshot, int, int, Look], list[Line]]


@dataclass(frozen=True, slots=True)
class View:
    """What the reader chose. over   "GONE", "ENDED" or "FAILED": said of a run in its phase's place
    when the snapshot that is shown cannot know
    """

    name: str = VIEWS[0]
    paused: bool = False
    shows_help: bool = False
    over: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of the screen.

    levels   heights that it has a use for, ascending, the title not counted; none: not shown
    """

    name: str
    levels: Sequence[int]
    draw: Callable[[int, int], list[Line]]


def screen(snapshot: Snapshot, width: int, height: int, look: Look, view: View) -> list[Line]:
    """What the terminal shows."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        words = fitted([("too small", "warning")], width, look.more)
        return [words, *[fitted([], width)] * (height - 1)][:height]
    snapshot = with_named_parts(snapshot)
    state = State(view.paused, view.over)
    top = header(snapshot, width, look, state, short=height < SHORT)[: height - 1]
    bottom = [keys_line(width, look, VIEWS, view.name)]
    if height >= LEGENDS and not view.shows_help:
        bottom = [*legend(snapshot, width, look, view.name), *bottom]
    room = max(height - len(top) - len(bottom), 0)
    body = _body(snapshot, width, room, look, view)
    body = [*body[:room], *[fitted([], width)] * (room - len(body))]
    return [*top, *body, *bottom][:height]


def _body(snapshot: Snapshot, width: int, height: int, look: Look, view: View) -> list[Line]:
    if view.shows_help:
        return [fitted(line, width, look.more) for line in help_lines(look, VIEWS)]
    if view.name != VIEWS[0]:
        panels = _panels(PANELS_OF[view.name], snapshot, width, PAGE, look)
        return _stack(panels, width, height, look)
    if width < TWO_COLUMNS:
        return _stack(_panels(SHOWN, snapshot, width, height, look), width, height, look)
    return _two_columns(snapshot, width, height, look)


def _two_columns(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """What is watched at the left with the text; what is looked at in rest at the right."""
    left_width = int(width * LEFT_SHARE)
    right_width = width - left_width - 1
    left = _panels(("devices", "ram", "text"), snapshot, left_width, height, look)
    right = _panels(("layers", "experts", "speed"), snapshot, right_width, PAGE, look)
    return beside(
        _stack(left, left_width, height, look),
        _stack(right, right_width, height, look),
        left_width,
        right_width,
    )


def _panels(
    names: Sequence[str], snapshot: Snapshot, width: int, height: int, look: Look
) -> list[Panel]:
    """With the heights that each has a use for in so many lines."""
    found = []
    for name in names:
        levels, draw = _LEVELS[name](snapshot, width, height, look), _DRAW[name]
        useful = [level for level in levels if level > 0]
        found.append(Panel(name, useful, partial(_drawn, draw, snapshot, look)))
    return found


def _drawn(draw: Draw, snapshot: Snapshot, look: Look, width: int, height: int) -> list[Line]:
    return draw(snapshot, width, height, look)


def _device_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    return devices.levels(snapshot, width, look)


def _ram_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    nodes = len(snapshot.nodes)
    return sorted({min(nodes, 2), nodes, ram.rows(snapshot, look)})


def _speed_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    most = LARGE_CHART_ROWS if height >= PAGE else CHART_ROWS
    return (1, *range(3, most + 1)) if snapshot.rates.history else ()


def _layer_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    return layers.levels(snapshot)


def _expert_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    return experts.levels(snapshot, height // 5)


def _text_levels(snapshot: Snapshot, width: int, height: int, look: Look) -> Sequence[int]:
    return range(max(height // 8, 2) if height < PAGE else 2, PAGE)


_LEVELS: Mapping[str, Callable[[Snapshot, int, int, Look], Sequence[int]]] = {
    "devices": _device_levels,
    "ram": _ram_levels,
    "speed": _speed_levels,
    "layers": _layer_levels,
    "experts": _expert_levels,
    "text": _text_levels,
}
_DRAW: Mapping[str, Draw] = {
    "devices": devices.devices,
    "ram": ram.ram,
    "speed": speed.speed,
    "layers": layers.layers,
    "experts": experts.experts,
    "text": text.generated,
}


def _stack(panels: Sequence[Panel], width: int, height: int, look: Look) -> list[Line]:
    """Panels one below another in at most `height` lines."""
    lines: list[Line] = []
    for panel, rows in shares(panels, height):
        if _titled(panel, height):
            lines.append(_title(TITLES[panel.name], width, look))
        lines += panel.draw(width, rows)[:rows]
    return lines


def shares(panels: Sequence[Panel], height: int) -> list[tuple[Panel, int]]:
    """Lines for each panel that fits, in the order given, its title not counted.

    What is needed most is shown in any case, with less than its least.
    """
    rows: dict[str, int] = {}
    left = height
    by_need = sorted((panel for panel in panels if panel.levels), key=_need)
    for panel in by_need:
        title = _titled(panel, height)
        least = panel.levels[0] if rows else min(panel.levels[0], left - title)
        if 0 < least <= left - title:
            rows[panel.name] = least
            left -= least + title
    for panel in (*(each for each in by_need if each.name != "text"), *by_need):
        now = rows.get(panel.name)
        if now is not None:
            most = now + left
            rows[panel.name] = max((level for level in panel.levels if level <= most), default=now)
            left = most - rows[panel.name]
    return [(panel, rows[panel.name]) for panel in panels if panel.name in rows]


def _need(panel: Panel) -> int:
    return NEED.index(panel.name)


def _titled(panel: Panel, height: int) -> bool:
    return height >= TITLED[panel.name]


def _title(text: str, width: int, look: Look) -> Line:
    begin = f"{look.rule} {text} "
    return fitted([(begin, "title"), (look.rule * max(width - len(begin), 0), "faint")], width)
