"""Text files that a program of ours writes as a whole."""

import os
from pathlib import Path


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
