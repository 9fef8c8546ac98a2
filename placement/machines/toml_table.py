"""TOML both ways: tables read key by key, each fault one error with key, value and remedy; and the
little writing that machine files and profiles need.
"""

import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from placement.errors import RequestError
from placement.units import ACCEPTED_FORMS, parse_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_FILE_BYTES = 1 << 20
LEAST_PLAIN_BYTES = 1 << 30  # of a size without a unit
MOST = 1e12  # of any rate, time or count in such a file
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def read_toml(path: Path, what: str) -> "Table":
    """The whole file as a table. Raises RequestError for one that is not there or is no TOML."""
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ValueError(f"larger than {MOST_FILE_BYTES >> 20} MiB")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RequestError(
            f"{path} cannot be read as {what}",
            said.splitlines()[0][:200],
            remedy="hybrid doctor --save rig.toml writes a machine file to begin with",
        ) from error
    return Table(values, path.name)


class Table:
    """One table of a file. Each key is asked for once; `finish` refuses those nobody asked for.

    where   named in errors: "rig.toml: gpu 2"
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where
        self._asked: list[str] = []

    def has(self, key: str) -> bool:
        return key in self._values

    def wrong(self, key: str, remedy: str) -> RequestError:
        """The error about a value that is not as it should be."""
        if not self.has(key):
            return RequestError(f"{self._where}: {key} is missing", remedy=remedy)
        shown = repr(self._values[key])[:80]
        return RequestError(f"{self._where}: {key} is {shown}", remedy=remedy)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or len(value) > 1000 or "\0" in value:
            raise self.wrong(key, f'a text: {key} = "..."')
        return value

    def whole(
        self, key: str, least: int, most: int, default: int | None = None, example: int = 1
    ) -> int:
        value = self._take(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}: {key} = {example}")
        return value

    def flag(self, key: str) -> bool:
        """False where it is left out."""
        value = self._take(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"true or false: {key} = true")
        return value

    def number(self, key: str, most: float = MOST, example: float = 1.5) -> float:
        """Above 0."""
        value = self._take(key, None)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not 0 < value <= most:
            raise self.wrong(key, f"a number above 0 and at most {most:g}: {key} = {example:g}")
        return float(value)

    def size(
        self, key: str, default: int | None = None, example: str = "24GiB", least: int = 1
    ) -> int:
        """Bytes, as flags write them, or a plain number of them: of those nobody means a few."""
        value = self._take(key, default)
        remedy = f'{key} = "{example}"; {ACCEPTED_FORMS}'
        try:
            words = value if isinstance(value, str) else str(value)
            nbytes = parse_bytes(words, key, least_plain=0)
        except RequestError as error:
            raise self.wrong(key, remedy) from error
        if isinstance(value, (bool, float)) or nbytes < least:
            raise self.wrong(key, remedy)
        if 0 < nbytes < LEAST_PLAIN_BYTES and str(value).strip().isdecimal():
            raise self.wrong(key, f'{key} = "{nbytes}GiB", or "{nbytes}B" for so many bytes')
        return nbytes

    def pairs(self, key: str, example: str) -> tuple[tuple[int, float], ...]:
        """[[1, 16.0], [2, 29.0]]: whole numbers, each with a rate; empty where it is left out."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(map(_is_pair, value)):
            raise self.wrong(key, f"{key} = {example}")
        return tuple((number, float(rate)) for number, rate in value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or any(not isinstance(text, str) for text in value):
            raise self.wrong(key, f'a list of texts: {key} = ["..."]')
        return tuple(value)

    def all_texts(self) -> dict[str, str]:
        """Every value of a table that holds nothing but texts."""
        return {key: self.text(key) for key in self._values}

    def all_ratios(self) -> dict[str, tuple[float, ...]]:
        """Every value of a table that holds nothing but lists of numbers above 0."""
        return {key: self._ratios(key) for key in self._values}

    def table(self, key: str) -> "Table":
        """The table under a key, an empty one where it is left out."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table: [{key}]")
        return Table(value, f"{self._where}: {key}")

    def tables(self, key: str) -> list["Table"]:
        """[[key]], none where it is left out."""
        value = self._take(key, [])
        if not isinstance(value, list) or any(not isinstance(one, dict) for one in value):
            raise self.wrong(key, f"write [[{key}]] above each")
        return [Table(one, f"{self._where}: {key} {n}") for n, one in enumerate(value, 1)]

    def offer(self, keys: Iterable[str]) -> None:
        """Further keys that are good, whether they are there or not: for `finish`."""
        self._asked += [key for key in keys if key not in self._asked]

    def finish(self, homes: Mapping[str, str] | None = None) -> None:
        """Raises RequestError for a key that nobody asked for, with the nearest good one.

        homes   of keys that belong into other tables: "disk_gb_s" -> "[host.speeds]"
        """
        unknown = [key for key in self._values if key not in self._asked]
        if not unknown:
            return
        if home := (homes or {}).get(unknown[0]):
            raise RequestError(
                f"{self._where}: unknown key {unknown[0]!r}",
                f"it is a speed, and speeds stand under {home}",
                remedy=f"move the line to {home}",
            )
        near = difflib.get_close_matches(unknown[0], self._asked, n=1, cutoff=0.6)
        raise RequestError(
            f"{self._where}: unknown key {unknown[0][:60]!r}",
            remedy=[
                *(f"did you mean {name}?" for name in near),
                f"one of {', '.join(self._asked)}",
            ],
        )

    def _ratios(self, key: str) -> tuple[float, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(_is_pair([0, ratio]) for ratio in value):
            raise self.wrong(key, f"a list of numbers above 0: {key} = [0.9, 1.1]")
        return tuple(map(float, value))

    def _take(self, key: str, default: Any) -> Any:
        self._asked.append(key)
        return self._values.get(key, default)


def toml_lines(values: Mapping[str, Any], name: str = "") -> list[str]:
    """Lines of a table: its plain values, then the tables in it under their dotted names.

    values   texts, whole numbers, finite numbers, lists of these, tables, lists of tables; None is
             left out
    """
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in values.items()
        if value is not None and not _is_table(value)
    ]
    for key, value in values.items():
        inner = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, Mapping) and value:
            lines += ["", f"[{inner}]", *toml_lines(value, inner)]
        elif _is_table(value) and not isinstance(value, Mapping):
            for one in value:
                lines += ["", f"[[{inner}]]", *toml_lines(one, inner)]
    return lines


def _is_pair(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    number, rate = value
    return type(number) is int and type(rate) in (int, float) and number >= 0 and 0 < rate <= MOST


def _is_table(value: object) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _value(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _character(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    return one if one.isprintable() else f"\\U{ord(one):08X}"
