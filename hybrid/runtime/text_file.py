"""Text files that a program of ours writes as a whole."""

import os
import re
from pathlib import Path

MOST_KEPT = 1 << 20  # bytes
NOTHING = re.compile(rb"(?!)")


def replace_text(path: str | Path, text: str) -> None:
    """Write all of it, or leave what was there: whoever reads meanwhile sees the file before.

    A link is followed, a file keeps its mode. A device or a pipe is written to: there is nothing
    to replace. Raises OSError, ValueError for a path that cannot be one.
    """
    there = Path(path)
    if there.exists() and not there.is_file():
        there.write_text(text, encoding="utf-8")
        return
    target = there.resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def keep_other_text(
    path: str | Path, text: str, passing: re.Pattern[bytes] = NOTHING
) -> Path | None:
    """Before `text` replaces a file of other text: a copy of it as FILE~, FILE~2, ..., the first
    name that is free or holds this copy already. None where there is nothing to keep.

    passing   what differs from one moment to the next, and needs no copy
    Raises OSError, ValueError for a path that cannot be one or a file too long for such a text.
    """
    there = Path(path)
    if not there.is_file():
        return None
    if there.stat().st_size > MOST_KEPT:
        raise ValueError(f"the file there has {there.stat().st_size} bytes and is something else")
    held = there.read_bytes()
    if passing.sub(b"", held) == passing.sub(b"", text.encode()):
        return None
    number = 1
    while True:
        kept = there.with_name(f"{there.name}~{number if number > 1 else ''}")
        try:
            with kept.open("xb") as file:
                file.write(held)
        except FileExistsError:
            if not kept.is_file() or kept.read_bytes() != held:
                number += 1
                continue
        return kept
