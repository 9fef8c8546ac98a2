"""One flag of llama.cpp or ik_llama.cpp that has no meaning here, and what is said of those given:
a line for each whose loss the user may feel, one line for all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """One flag.

    names         as typed, aliases after the first
    became        what stands in its place here, for the note
    value         "none", "one", or "switch": on, off, auto, 0, 1 or nothing
    is_harmless   without it nothing comes out otherwise, and nothing asked for is missing
    """

    names: tuple[str, ...]
    became: str
    value: str = "none"
    is_harmless: bool = False


@dataclass(frozen=True, slots=True)
class ForeignUse:
    """One flag on a command line, as typed with its value."""

    typed: str
    flag: ForeignFlag

    @property
    def note(self) -> str:
        return f"{self.typed} has no effect here: {self.flag.became}"


def foreign(names: str, became: str, value: str = "none") -> ForeignFlag:
    """names   parted by blanks"""
    return ForeignFlag(tuple(names.split()), became, value)


def harmless(names: str, became: str, value: str = "none") -> ForeignFlag:
    """A `foreign` one that nobody misses."""
    return ForeignFlag(tuple(names.split()), became, value, is_harmless=True)


def foreign_notes(uses: Sequence[ForeignUse]) -> list[str]:
    """What is said of them, in the order of the command line."""
    idle = [use for use in uses if use.flag.is_harmless]
    if len(idle) < 2:
        return [use.note for use in uses]
    typed = ", ".join(use.typed for use in idle)
    together = f"without effect here, and nothing is lost: {typed} (--help says why)"
    return [*(use.note for use in uses if use not in idle), together]
