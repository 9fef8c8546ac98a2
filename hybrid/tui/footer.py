"""The bottom of the screen: the legend of what is drawn, and the keys; and the help page."""

from collections.abc import Sequence

from hybrid.live.snapshot import CPU_PARTS, GPU_PARTS, Snapshot
from hybrid.tui.lines import Line, apart, fitted, joined
from hybrid.tui.look import WORDS, Look, memory_groups

HELP = (
    ("p, space", "stop at what is shown, and go on; the run goes on all the time"),
    ("tab, 1 to 5", "the panels: {views}"),
    ("q", "leave the view; a run goes on and prints its text"),
    ("Ctrl-Z, Ctrl-C", "suspend, end: as everywhere"),
    ("? or h", "this page, and back"),
)
MEANINGS = (
    ("mem", "the plan by kind, to the device's size; {mark} the budget"),
    ("", "{foreign} what other programs hold"),
    ("time", "of a token, all bars to one scale; waiting: for another device"),
    ("GB/s", "planned bytes of experts, else of a token, by the time they take"),
    ("", "of about: a limit that is estimated, not measured"),
    ("layers", "the device that computes it; bright and high: takes long"),
    ("top 10 %", "how much of the choices its busiest tenth of experts takes"),
    ("experts", "each cell's most chosen one, in times of an even share"),
    ("-", "no source says it"),
)


def footer(
    snapshot: Snapshot, width: int, look: Look, views: Sequence[str], chosen: str
) -> list[Line]:
    """Legend, then keys; the chosen view stands out by brackets too."""
    keys: Line = [(" ", "")]
    for index, name in enumerate(views, 1):
        text = f"[{index} {name}]" if name == chosen else f" {index} {name} "
        keys.append((text, "strong" if name == chosen else "faint"))
    right: Line = [("p pause  ? help  q quit ", "faint")]
    return [_legend(snapshot, width, look), apart(keys, right, width, look.more)]


def _legend(snapshot: Snapshot, width: int, look: Look) -> Line:
    """What is in use, memory first; a glyph that means the same in both bars stands once."""
    used = dict.fromkeys(_memory_names(snapshot))
    timed = {name for device in snapshot.devices for name in device.seconds}
    for name in dict.fromkeys((*GPU_PARTS, *CPU_PARTS)):
        if name in timed and look.glyphs[name] not in {look.glyphs[other] for other in used}:
            used[name] = None
    parts: list[Line] = [
        [(look.glyphs[name], name), (f" {WORDS.get(name, name)}", "faint")] for name in used
    ]
    return fitted([(" ", ""), *joined(parts, "  ", width - 1)], width)


def _memory_names(snapshot: Snapshot) -> list[str]:
    names: dict[str, None] = {}
    for device in snapshot.devices:
        names |= dict.fromkeys(memory_groups(device.memory.weights))
    names |= {"cache": None, "compute": None}
    if any(_has_foreign(device.memory.used_by_all_bytes) for device in snapshot.devices):
        names["foreign"] = None
    return list(names)


def _has_foreign(used_bytes: int | None) -> bool:
    return used_bytes is not None


def help_lines(look: Look, views: Sequence[str]) -> list[Line]:
    """Keys and how to read the panels."""
    words = {
        "views": ", ".join(f"{index} {name}" for index, name in enumerate(views, 1)),
        "mark": look.mark,
        "foreign": look.glyphs["foreign"],
    }
    keys = [[(f" {key:15}", "key"), (what.format(**words), "")] for key, what in HELP]
    texts = [[(f" {name:15}", "key"), (what.format(**words), "")] for name, what in MEANINGS]
    return [[], *keys, [], *texts]
