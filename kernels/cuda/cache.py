"""Compiled kernels on disk, in the user's cache directory; a folder that refuses is no error.

A file's name is the hash of everything that its content follows from, so nothing is ever stale and
two programs that write the same name write the same bytes.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def usual_folder() -> Path | None:
    """~/.cache/hybrid/kernels; None for a user without a home."""
    try:
        return Path.home() / ".cache" / "hybrid" / "kernels"
    except RuntimeError:
        return None


def read(name: str, folder: Path | None) -> bytes | None:
    """The file's content, if it is there and may be read."""
    try:
        return (folder / name).read_bytes() if folder else None
    except OSError:
        return None


def write(name: str, content: bytes, folder: Path | None) -> None:
    """Leaves the whole file or none, whoever else writes it at the same time."""
    write_by(name, lambda path: path.write_bytes(content), folder)


def write_by(name: str, fill: Callable[[Path], object], folder: Path | None) -> Path | None:
    """The file that `fill` made, moved to its name in one step; None where the folder refuses."""
    try:
        if folder is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder))
    except OSError:
        return None
    try:
        fill(unfinished / name)
        os.replace(unfinished / name, folder / name)
    except OSError:
        return None
    finally:
        (unfinished / name).unlink(missing_ok=True)
        unfinished.rmdir()
    return folder / name
