"""Snapshots as JSON and back: one form for the socket and the stats file.

    {"version": 1, "at": ..., "facts": {...}, "phase": "decode", ...}

Names are those of `snapshot.py`'s fields, all of them always there; null is what no source says.
Reading is strict: another version, a field too many or too few, or another type is a WireError.
"""

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from hybrid.errors import HybridError
from hybrid.live.snapshot import Snapshot

VERSION = 1

_Reader = Callable[[Any, str], Any]


class WireError(HybridError):
    """What came is no snapshot of this version."""


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Plain values for `json.dumps`."""
    return {"version": VERSION, **_plain(snapshot)}


def to_line(snapshot: Snapshot) -> bytes:
    """One line of ASCII, its end included."""
    text = json.dumps(to_json(snapshot), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def from_line(line: bytes) -> Snapshot:
    """What `to_line` wrote. Raises WireError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it is no JSON: {error}") from error
    return from_json(value)


def from_json(value: Any) -> Snapshot:
    """What `to_json` gave. Raises WireError."""
    if not isinstance(value, dict) or value.get("version") != VERSION:
        found = value.get("version") if isinstance(value, dict) else None
        raise _wrong(f"its version is {str(found)[:20]}, not {VERSION}")
    fields_alone = {name: its for name, its in value.items() if name != "version"}
    read: Snapshot = _reader(Snapshot)(fields_alone, "snapshot")
    return read


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        # long ones are of numbers alone
        whole = not value or isinstance(value[0], (str, int, float))
        return value if whole else [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return {name: _plain(getattr(value, name)) for name in _names(value.__class__)}


@cache
def _reader(kind: Any) -> _Reader:
    """A function (value, where) -> what a field of this type holds."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional_reader(kind)
    if origin is tuple:
        return _tuple_reader(get_args(kind)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_reader(kind)
    if is_dataclass(kind):
        return _record_reader(kind)
    if kind is bool:
        return _flag_reader
    return _number_reader(kind) if kind in (int, float) else _text_reader


def _optional_reader(kind: Any) -> _Reader:
    [inner] = [each for each in get_args(kind) if each is not type(None)]
    read_inner = _reader(inner)
    return lambda value, where: None if value is None else read_inner(value, where)


def _tuple_reader(inner: Any) -> _Reader:
    read_inner = _reader(inner)

    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(f"{where} is no list")
        return tuple(read_inner(each, where) for each in value)

    return read


def _mapping_reader(inner: Any) -> _Reader:
    read_inner = _reader(inner)

    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(f"{where} is no object")
        return {key: read_inner(each, f"{where}.{key[:40]}") for key, each in value.items()}

    return read


def _enum_reader(kind: type[Enum]) -> _Reader:
    def read(value: Any, where: str) -> Enum:
        try:
            return kind(value)
        except ValueError as error:
            raise _wrong(f"{where} is {str(value)[:20]!r}") from error

    return read


def _record_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers: dict[str, _Reader] | None = None

    def read(value: Any, where: str) -> Any:
        nonlocal readers
        readers = readers or {name: _reader(hints[name]) for name in _names(kind)}
        if not isinstance(value, dict):
            raise _wrong(f"{where} is no object")
        if odd := value.keys() ^ readers.keys():
            word = "lacks" if odd - value.keys() else "has"
            raise _wrong(f"{where} {word} {min(odd)[:40]!r}")
        return kind(**{name: of(value[name], f"{where}.{name}") for name, of in readers.items()})

    return read


def _number_reader(kind: type[int] | type[float]) -> _Reader:
    accepted = (int,) if kind is int else (int, float)

    def read(value: Any, where: str) -> int | float:
        if isinstance(value, bool) or not isinstance(value, accepted) or not math.isfinite(value):
            raise _wrong(f"{where} is {str(value)[:20]!r}, no {kind.__name__}")
        return kind(value)

    return read


def _flag_reader(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(f"{where} is neither true nor false")
    return value


def _text_reader(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(f"{where} is no text")
    return value


def _wrong(what: str) -> WireError:
    return WireError(
        f"this is no snapshot of a run: {what}",
        remedy="use the same version of hybrid for the run and for what reads it",
    )
