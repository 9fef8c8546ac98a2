"""One flag of llama.cpp or ik_llama.cpp that has no meaning here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """One flag.

    names    as typed, aliases after the first
    became   what stands in its place here, for the note
    value    "none", "one", or "switch": on, off, auto, 0, 1 or nothing
    """

    names: tuple[str, ...]
    became: str
    value: str = "none"


def foreign(names: str, became: str, value: str = "none") -> ForeignFlag:
    """names   parted by blanks"""
    return ForeignFlag(tuple(names.split()), became, value)
