"""The bottom of the screen: the keys; and the help page."""

from collections.abc import Sequence

from hybrid.tui.lines import Line, apart
from hybrid.tui.look import Look

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


def keys_line(width: int, look: Look, views: Sequence[str], chosen: str) -> Line:
    """The chosen view stands out by brackets too."""
    keys: Line = [(" ", "")]
    for index, name in enumerate(views, 1):
        text = f"[{index} {name}]" if name == chosen else f" {index} {name} "
        keys.append((text, "strong" if name == chosen else "faint"))
    right: Line = [("p pause  ? help  q quit ", "faint")]
    return apart(keys, right, width, look.more)


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
