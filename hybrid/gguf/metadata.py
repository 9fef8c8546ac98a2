"""Metadata of a file: decoding of all value types, and typed access with one error per mistake."""

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from hybrid.errors import GgufError
from hybrid.gguf.cursor import Cursor
from hybrid.gguf.faults import corrupt, quoted

Value: TypeAlias = "bool | int | float | str | list[Value]"
Default = TypeVar("Default")

NAME_LIMIT_BYTES = 64 << 10
NESTING_LIMIT = 4
REQUIRED: Any = object()  # the default of a key without which nothing can go on

_NUMBERS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_OTHER_CONVERSION = "use another conversion of the model; `hybrid inspect` shows what a file has"

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SMALLEST_KEY_BYTES = 8 + 4 + 1  # empty name, value type, one byte
_SMALLEST_BYTES = {kind: form.size for kind, form in _NUMBERS.items()}
_SMALLEST_BYTES |= {_BOOL: 1, _STRING: 8, _ARRAY: 12}


class Metadata(Mapping[str, Value]):
    """Key-value pairs of a file in file order, as Python numbers, texts and (nested) lists."""

    def __init__(self, path: Path, values: Mapping[str, Value]) -> None:
        self._path = path
        self._values = values

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_int(self, key: str, default: Default = REQUIRED) -> int | Default:
        """Any integer type of the file; a bool is not one. Raises GgufError, as `get_str` does."""
        value: int | Default = self._typed(key, default, "an integer", _is_int)
        return value

    def get_str(self, key: str, default: Default = REQUIRED) -> str | Default:
        value: str | Default = self._typed(key, default, "a text", _is_text)
        return value

    def _typed(self, key: str, default: Any, wanted: str, accepts: Callable[[Any], bool]) -> Any:
        if key not in self._values:
            if default is REQUIRED:
                raise GgufError(
                    f"{self._path} has no metadata key {quoted(key)}",
                    f"it must be {wanted}; the file has {len(self)} keys",
                    remedy=_OTHER_CONVERSION,
                )
            return default
        value = self._values[key]
        if not accepts(value):
            raise self._wrong_type(key, value, wanted)
        return value

    def _wrong_type(self, key: str, value: Value, wanted: str) -> GgufError:
        return GgufError(
            f"{self._path}: metadata key {quoted(key)} is {_described(value)}, not {wanted}",
            remedy=_OTHER_CONVERSION,
        )


def read_metadata(cursor: Cursor, count: int) -> Metadata:
    """Decode `count` pairs. Raises GgufError for a duplicate key, an unknown type, a bad length."""
    values: dict[str, Value] = {}
    for index in range(count):
        key = cursor.string(f"the name of metadata key {index} of {count}", NAME_LIMIT_BYTES)
        if key in values:
            raise corrupt(cursor.path, f"metadata key {quoted(key)} occurs twice")
        field = f"metadata key {quoted(key)}"
        values[key] = _read_value(cursor, cursor.u32(f"the type of {field}"), field)
    return Metadata(cursor.path, values)


def check_metadata_count(cursor: Cursor) -> int:
    """The header's count of pairs, possible in what is left of the file."""
    return cursor.count(_SMALLEST_KEY_BYTES, "the count of metadata keys")


def _read_value(cursor: Cursor, kind: int, field: str) -> Value:
    if kind in _NUMBERS:
        form = _NUMBERS[kind]
        value: int | float = form.unpack(cursor.take(form.size, field))[0]
        return value
    if kind == _BOOL:
        return _bools(cursor, 1, field)[0]
    if kind == _STRING:
        return cursor.string(field)
    if kind == _ARRAY:
        return _read_array(cursor, field, depth=1)
    raise _unknown_type(cursor, kind, field)


def _read_array(cursor: Cursor, field: str, depth: int) -> list[Value]:
    if depth > NESTING_LIMIT:
        raise corrupt(cursor.path, f"{field} nests arrays more than {NESTING_LIMIT} deep")
    kind = cursor.u32(f"the element type of {field}")
    if kind not in _SMALLEST_BYTES:
        raise _unknown_type(cursor, kind, f"the elements of {field}")
    count = cursor.count(_SMALLEST_BYTES[kind], f"the length of {field}")
    if kind == _STRING:
        return list[Value](cursor.strings(count, field))
    if kind == _BOOL:
        return _bools(cursor, count, field)
    if kind == _ARRAY:
        return [_read_array(cursor, field, depth + 1) for _ in range(count)]
    form = _NUMBERS[kind]
    raw = cursor.take(count * form.size, field)
    return list(struct.unpack(f"<{count}{form.format[-1]}", raw))


def _bools(cursor: Cursor, count: int, field: str) -> list[Value]:
    raw = cursor.take(count, field)
    other = raw.translate(None, b"\0\1")
    if other:
        raise corrupt(cursor.path, f"{field} holds a bool of {other[0]}; only 0 and 1 are bools")
    return [byte == 1 for byte in raw]


def _unknown_type(cursor: Cursor, kind: int, field: str) -> GgufError:
    return corrupt(
        cursor.path,
        f"{field} has value type {kind}; types 0 to 12 exist",
        f"before byte {cursor.position}",
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _described(value: Value) -> str:
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return f"the {type(value).__name__} {value}"
