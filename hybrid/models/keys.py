"""Typed, bounded access to one architecture's metadata keys: every mistake of a file is one
UnsupportedModel.
"""

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, Protocol

from hybrid.errors import UnsupportedModel

COUNT_LIMIT = (
    1 << 24
)  # layers, widths, tokens: beyond any model, small enough that products stay exact
ANOTHER_FILE = "use another conversion of the model; `hybrid inspect` shows what this file holds"


class HasShape(Protocol):
    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major, slowest first."""
        ...


class ModelFile(Protocol):
    """What a configuration is read from; `hybrid.gguf.GgufFile` is one."""

    @property
    def path(self) -> str | PathLike[str]: ...

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    @property
    def tensors(self) -> Mapping[str, HasShape]: ...


class Keys:
    """The keys `<architecture>.<name>` of a file. A getter without a default asks for the key to
    be there.

    Raises UnsupportedModel, naming key and file, for a key that is missing, of the wrong type or
    out of range.
    """

    def __init__(self, file: ModelFile, architecture: str) -> None:
        self.file = file
        self.architecture = architecture

    def __contains__(self, name: str) -> bool:
        return f"{self.architecture}.{name}" in self.file.metadata

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """An integer least .. COUNT_LIMIT; an array of one value per layer is taken when the
        values agree.
        """
        value = self._value(name, default)
        if isinstance(value, list | tuple):
            value = self._uniform(name, value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fault(name, f"is {value!r}, not an integer")
        if not least <= value <= COUNT_LIMIT:
            raise self.fault(name, f"is {value}, outside {least} .. {COUNT_LIMIT}")
        return value

    def number(self, name: str, default: float | None = None, positive: bool = False) -> float:
        """A finite real number, not negative, with `positive` not zero either."""
        value = self._value(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.fault(name, f"is {value!r}, not a number")
        if not math.isfinite(value) or value < 0 or (positive and value == 0):
            least = "above" if positive else "of at least"
            raise self.fault(name, f"is {value}, not a finite number {least} 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, int) or value not in (0, 1):
            raise self.fault(name, f"is {value!r}, not true or false")
        return bool(value)

    def text(self, name: str, default: str) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.fault(name, f"is {value!r}, not a text")
        return value

    def fault(self, name: str, wrong: str, *details: str) -> UnsupportedModel:
        """The error for key `name`: "FILE: metadata key deepseek2.NAME WRONG"."""
        return UnsupportedModel(
            f"{self.file.path}: metadata key {self.architecture}.{name} {wrong}",
            *details,
            remedy=ANOTHER_FILE,
        )

    def _value(self, name: str, default: object) -> object:
        key = f"{self.architecture}.{name}"
        if key in self.file.metadata:
            return self.file.metadata[key]
        if default is None:
            raise UnsupportedModel(
                f"{self.file.path} has no metadata key {key}",
                f"models of architecture {self.architecture} cannot be run without it",
                remedy=ANOTHER_FILE,
            )
        return default

    def _uniform(self, name: str, values: list[object] | tuple[object, ...]) -> object:
        """The one value other than 0: some writers give 0 to layers that do not use it."""
        used = {value for value in values if isinstance(value, int)} - {0}
        if len(used) > 1 or not values:
            raise self.fault(
                name,
                f"holds {len(values)} values per layer, {len(used)} different ones",
                "layers of one kind must all have the same size",
            )
        return used.pop() if used else values[0]
