"""Folders like /sys and /proc, as a test wants them."""

from pathlib import Path


def write(root: Path, files: dict[str, str]) -> Path:
    """`root`, with a file of this text at each path below it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
