"""A line of the screen as spans of one style each, cut and padded to cells of a terminal.

    Line = [("CUDA0", "strong"), ("  16.3 GiB", "")]        style names as in `look.COLOURS`

Own and not rich's Text: a frame of 200x60 has to be drawn in a few milliseconds beside the
generating thread, and nothing here needs markup, wrapping by words or highlighting.
"""

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

Span = tuple[str, str]
Line = list[Span]

# Of text from outside: control characters would move the cursor or end the alternate screen.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[@-Z\\\\^_])")


def width_of(line: Sequence[Span]) -> int:
    return sum([len(text) if text.isascii() else cell_len(text) for text, _ in line])


def fitted(line: Sequence[Span], width: int, more: str = "") -> Line:
    """Exactly `width` cells: cut, with `more` as the last character of a cut line, or padded."""
    left = width - width_of(line)
    if left >= 0:
        return [*line, (" " * left, "")] if left else list(line)
    return _cut(line, width - cell_len(more), more)


def _cut(line: Sequence[Span], width: int, more: str) -> Line:
    kept: Line = []
    left = max(width, 0)
    for text, name in line:
        size = cell_len(text)
        if size >= left:
            kept.append((set_cell_size(text, left), name))
            break
        kept.append((text, name))
        left -= size
    return [*kept, (more, "faint")] if more and width >= 0 else kept


def apart(left: Sequence[Span], right: Sequence[Span], width: int, more: str = "") -> Line:
    """`left` at the left, `right` at the right; the left one is cut for the right one."""
    room = width - width_of(right)
    if room < 1:
        return fitted(left, width, more)
    return [*fitted(left, room, more), *right]


def beside(
    left: Sequence[Line], right: Sequence[Line], left_width: int, right_width: int
) -> list[Line]:
    """Two blocks of fitted lines as columns, a blank between them; the shorter is filled up."""
    rows = max(len(left), len(right))
    first = [*left, *([[(" " * left_width, "")]] * (rows - len(left)))]
    second = [*right, *([[(" " * right_width, "")]] * (rows - len(right)))]
    return [[*a, (" ", ""), *b] for a, b in zip(first, second, strict=True)]


def joined(parts: Iterable[Sequence[Span]], between: str, width: int) -> Line:
    """Parts one after another while they fit wholly: what comes last is left out first."""
    line: Line = []
    left = width
    for part in parts:
        size = width_of(part) + (len(between) if line else 0)
        if size > left:
            break
        line += [(between, "faint"), *part] if line else part
        left -= size
    return line


def filled(parts: list[Line], between: str, width: int) -> tuple[Line, list[Line]]:
    """A line of the first parts, one at least, and those that had no room."""
    left, count = width, 0
    for part in parts:
        left -= width_of(part) + (len(between) if count else 0)
        if left < 0 and count:
            break
        count += 1
    return joined(parts[:count], between, width), parts[count:]


def clean(text: str) -> str:
    """Text of a model or a file without what a terminal would obey; tabs as blanks."""
    return _CONTROL.sub("", _ESCAPE.sub("", text.replace("\r\n", "\n"))).replace("\t", "    ")


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


def wrapped_end(text: str, width: int, height: int) -> list[str]:
    """The last `height` lines of `text` broken to `width` cells, between words where there are."""
    if width < 1 or height < 1:
        return []
    end = clean(text[-(width + 1) * (height + 1) * 2 :])
    lines = [piece for line in end.split("\n") for piece in _broken(line, width)]
    return lines[-height:]


def _broken(line: str, width: int) -> list[str]:
    pieces = []
    while cell_len(line) > width:
        piece = _head(line, width)
        blank = piece.rfind(" ")
        if blank > width // 2 and not line[len(piece) :].startswith(" "):
            piece = piece[: blank + 1]
        pieces.append(piece.rstrip())
        line = line[len(piece) :].lstrip(" ")
    return [*pieces, line]


def _head(line: str, width: int) -> str:
    """As many characters from the beginning as fit; one at least, so that breaking ends."""
    if line.isascii():
        return line[:width]
    cells = 0
    for index, character in enumerate(line):
        cells += cell_len(character)
        if cells > width:
            return line[: max(index, 1)]
    return line
