"""Bytes that a terminal sends -> names of keys."""

import re

_SEQUENCES = {
    "\x1b[Z": "back-tab",
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    " ": "space",
    "\x1b": "escape",
}
_KEY = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1bO.|.", flags=re.DOTALL)


def key_names(data: bytes) -> list[str]:
    """Each key's name, a letter or digit as itself; sequences that mean nothing here are dropped.

    A sequence that is cut between two reads is taken for its characters; terminals send it whole.
    """
    found = _KEY.findall(data.decode("utf-8", "ignore"))
    names = [_SEQUENCES.get(key, key if len(key) == 1 else "") for key in found]
    return [name for name in names if name and (len(name) > 1 or name.isprintable())]
