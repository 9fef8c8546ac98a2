"""What goes where: results and generated text on stdout, everything said to a person on stderr."""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hybrid.errors import HybridError, OutputError
from hybrid.runtime.text_file import NOTHING, keep_other_text, replace_text


def note(text: str) -> None:
    """One line for the user on stderr."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def notes(texts: Iterable[str]) -> None:
    for text in texts:
        note(text)


def say(text: str) -> None:
    """Lines on stderr as they are: the plan, timings."""
    print(text, file=sys.stderr, flush=True)


def error_block(error: HybridError) -> None:
    print(f"error: {error}", file=sys.stderr, flush=True)


def as_json(value: Any) -> str:
    """Escaped to ASCII: readable whatever the terminal's or the pipe's encoding."""
    return json.dumps(value, indent=2, ensure_ascii=True)


def print_json(value: Any) -> None:
    print(as_json(value), flush=True)


def print_json_line(value: Any) -> None:
    """The same on one line, for what ends a table."""
    print(json.dumps(value, ensure_ascii=True), flush=True)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns two blanks apart; the last one is not padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = (
        "  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
    return "\n".join(indent + line.rstrip() for line in lines)


def shown(text: str) -> str:
    """A name from outside on one line: what would move the cursor becomes its escape."""
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text
    )


def save_text(path: str | Path, text: str, flag: str) -> None:
    """Write a file that the user named with `flag`: wholly, or what was there stays. Raises
    OutputError.
    """
    try:
        replace_text(path, text)
    except (OSError, ValueError) as error:
        raise _unwritten(path, flag, error) from error


def save_beside(
    path: str | Path, text: str, flag: str, passing: re.Pattern[bytes] = NOTHING
) -> None:
    """`save_text`, said on stderr; a file with other text, perhaps somebody's own, stays beside it,
    but for what is `passing`. Raises OutputError, with that file as it was.
    """
    try:
        kept = keep_other_text(path, text, passing)
    except (OSError, ValueError) as error:
        raise _unwritten(path, flag, error) from error
    save_text(path, text, flag)
    say(f"{path} is written" + (f"; what it held before is now in {kept}" if kept else ""))


def _unwritten(path: str | Path, flag: str, error: Exception) -> OutputError:
    return OutputError(
        f"{flag} {path} cannot be written",
        getattr(error, "strerror", None) or str(error),
        remedy="name a file in a folder that exists, may be written and has room",
    )


def prepare_streams() -> None:
    """Closed streams become empty ones; a stdout that cannot show a character gets its escape in
    place of an exception.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # open to the end: it stands in for a stream of the whole process
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def abandon_broken_streams() -> None:
    """Point streams that cannot be flushed at nothing, or the interpreter complains at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
