"""Checks of what a caller asks for; each raises UsageError naming option and good values."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from hybrid.errors import UsageError


def one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise UsageError(
            f"{name} {shown(value)} is not known", remedy=f"one of {', '.join(map(str, known))}"
        )


def whole(name: str, value: Any, least: int, most: float = math.inf) -> None:
    if not is_whole(value) or not least <= value <= most:
        upper = f" and at most {most}" if most < math.inf else ""
        raise UsageError(
            f"{name} is {shown(value)}", remedy=f"a whole number of at least {least}{upper}"
        )


def is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def all_of(name: str, values: object, kinds: tuple[type, ...], example: str) -> None:
    if not isinstance(values, tuple):
        raise UsageError(f"{name} is {shown(values)}", remedy=example)
    if wrong := [value for value in values if not isinstance(value, kinds)]:
        raise UsageError(f"{name} holds {shown(wrong[0])}", remedy=example)


def sizes(name: str, given: object, example: str) -> None:
    """Whole bytes by device name."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{name} is {shown(given)}", remedy=f"{name}={example}, in bytes")
    for device, nbytes in given.items():
        if not isinstance(device, str) or not is_whole(nbytes):
            raise UsageError(
                f"{name} of {device} is {shown(nbytes)}", remedy=f"{name}={example}, in bytes"
            )


def simulated_gpus(given: Mapping[str, int]) -> None:
    """The checks of `placement.memory.budgets.parse_simulate`, for sizes that were never a text."""
    example = '{"CUDA0": 64 << 20, "CUDA1": 48 << 20}'
    sizes("simulate", given, example)
    if empty := [name for name, nbytes in given.items() if nbytes <= 0]:
        raise UsageError(
            f"simulate gives {empty[0]} {given[empty[0]]} bytes",
            remedy=f"simulate={example}, in bytes",
        )
    if set(given) != {f"CUDA{number}" for number in range(len(given))}:
        raise UsageError(
            f"simulate names {', '.join(given)}; GPUs are CUDA0, CUDA1, ... without gaps",
            remedy=f"simulate={example}",
        )


def shown(value: object) -> str:
    """A value inside one line of a message."""
    return repr(value)[:80]
