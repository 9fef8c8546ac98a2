"""What a part, a device or a heat looks like: one glyph and one colour each, so that the screen
reads the same without colour, and in letters where the terminal has no block characters.

    █ experts  ▓ attention  ▚ dense  ▌ head  ═ crossing  ╬ sampling  · waiting  ▄ other

The same glyphs stand in `hybrid plan`. Colours are of the eight that every terminal has; none
means anything that no glyph or word says too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rich.style import Style

from placement.inventory import Role
from placement.report.bars import BLOCKS, LETTERS, can_show_blocks
from placement.report.device_memory import CATEGORIES, GROUP_OF

COLOURS = {
    "attention": "cyan",
    "dense": "blue",
    "shared": "green",
    "experts": "yellow",
    "routed": "yellow",
    "head": "white",
    "embed+head": "white",
    "cache": "magenta",
    "compute": "blue",
    "crossing": "magenta",
    "sampling": "green",
    "waiting": "dim",
    "free": "dim",
    "other": "dim",
    "foreign": "dim",
    "mark": "bold",
    "title": "bold cyan",
    "strong": "bold",
    "faint": "dim",
    "warning": "bold yellow",
    "error": "bold red",
    "done": "green",
    "key": "bold",
    "chosen": "reverse",
}
HEATS = ("dim", "cyan", "yellow", "bold white")  # as of glowing iron; all brighter and brighter
WORDS = {"routed": "experts", "foreign": "other programs", "mark": "budget"}


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Glyphs of one kind of terminal.

    glyphs   part or memory category -> one character
    heights  eight or more steps from nothing to full
    shades   steps of the heat strip, from never to hot
    """

    glyphs: Mapping[str, str]
    heights: str
    shades: str
    rule: str
    full: str
    empty: str
    mark: str
    join: str
    more: str
    degree: str
    about: str


UNICODE = Look(
    glyphs={
        **BLOCKS,
        "experts": BLOCKS["routed"],
        "head": BLOCKS["embed+head"],
        "crossing": "═",
        "sampling": "╬",
        "waiting": "·",
        "foreign": "×",
    },
    heights="▁▂▃▄▅▆▇█",
    shades="·░▒▓█",
    rule="─",
    full="█",
    empty="·",
    mark="│",
    join=" · ",
    more="…",
    degree="°C",
    about="±",
)
ASCII = Look(
    glyphs={
        **LETTERS,
        "experts": LETTERS["routed"],
        "head": LETTERS["embed+head"],
        "crossing": "=",
        "sampling": "+",
        "waiting": ".",
        "foreign": "x",
    },
    heights="_.-:=+*#",
    shades=".:+*#",
    rule="-",
    full="#",
    empty=".",
    mark="|",
    join=", ",
    more="~",
    degree=" C",
    about="+-",
)


def look_of(encoding: str | None) -> Look:
    """Blocks where a stream of this encoding takes them, letters elsewhere."""
    return UNICODE if can_show_blocks(encoding) else ASCII


@lru_cache(maxsize=256)
def style(name: str) -> Style | None:
    """Of a part, a role of text (COLOURS), a heat ("heat0" to "heat3"), or none for ""."""
    if not name:
        return None
    if name.startswith("heat"):
        return Style.parse(HEATS[int(name[4:])])
    return Style.parse(COLOURS[name])


def heat_name(share: float | None) -> str:
    """The colour of a share of the hottest; faint where it is absent."""
    if share is None:
        return "faint"
    return f"heat{min(int(max(share, 0.0) * len(HEATS)), len(HEATS) - 1)}"


def memory_groups(weights: Mapping[str, int]) -> dict[str, int]:
    """Bytes by the categories of `hybrid plan`, in their order, of roles or of such categories."""
    sums = dict.fromkeys(CATEGORIES, 0)
    for name, nbytes in weights.items():
        sums[_category(name)] += nbytes
    return {name: nbytes for name, nbytes in sums.items() if nbytes}


@lru_cache(maxsize=64)
def _category(name: str) -> str:
    if name in CATEGORIES:
        return name
    try:
        return GROUP_OF[Role(name)]
    except (ValueError, KeyError):
        return "other"
