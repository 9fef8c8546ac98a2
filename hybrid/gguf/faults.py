"""How this room words what is wrong with a file."""

from pathlib import Path

from hybrid.errors import GgufError

FETCH_AGAIN = "fetch the file again and compare its size and checksum with the publisher's"
_SHOWN_CHARACTERS = 80


def corrupt(path: Path, fault: str, *details: str, remedy: str = FETCH_AGAIN) -> GgufError:
    """The error for bytes that cannot be what their writer meant."""
    return GgufError(f"{path} is corrupt: {fault}", *details, remedy=remedy)


def quoted(name: str) -> str:
    """A name from a file as one printable word: control characters escaped, long names cut."""
    if len(name) <= _SHOWN_CHARACTERS:
        return repr(name)
    return f"{name[:_SHOWN_CHARACTERS]!r}... ({len(name)} characters)"
