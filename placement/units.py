"""Bytes as people write and read them: "23.6 GiB", "22G", "64MiB" <-> int; seconds, rates, tokens.

K, M, G, T, P and KiB ... PiB are powers of 1024, as the flags of llama.cpp mean them; KB ... PB are
powers of 1000.
"""

import re
from decimal import Decimal

from placement.errors import RequestError

MAX_BYTES = 1 << 60  # nothing that is called a machine here holds more
LEAST_PLAIN_BYTES = 1 << 20  # a smaller number without a unit has lost its unit
FROM_MIB = 4096  # such a number was of MiB, smaller ones of GiB
LEFT_FROM_MIB = 64  # the same where it is negative, what is to be left free
ACCEPTED_FORMS = "bytes are written as 67108864, 64MiB, 22G, 1.5GiB or 24GB (GB is 10^9)"

_NUMBER = re.compile(r"([+-]?)([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{0,3})", re.ASCII)
_UNIT_BYTES = {
    "": 1,
    "b": 1,
    **{letter: 1 << (10 * i) for i, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": 1 << (10 * i) for i, letter in enumerate("kmgtp", 1)},
    **{f"{letter}b": 1000**i for i, letter in enumerate("kmgtp", 1)},
}


def parse_bytes(
    text: str,
    what: str = "a byte count",
    *,
    least_plain: int = LEAST_PLAIN_BYTES,
    from_mib: int = FROM_MIB,
) -> int:
    """The number of bytes that `text` means, rounded down; negative when it begins with "-".

    what          named in the error: "the budget of CUDA0"
    least_plain   of a number without a unit, other than 0
    from_mib      a smaller one that lost its unit was of GiB, any other of MiB
    returns       bytes, |n| <= MAX_BYTES
    Raises RequestError with the accepted forms, also for a small number without a unit.
    """
    found = _NUMBER.fullmatch(text.strip())
    unit_bytes = _UNIT_BYTES.get(found[3].lower()) if found else None
    if found is None or unit_bytes is None:
        raise RequestError(f"cannot read {what}: {_short(text)!r}", remedy=ACCEPTED_FORMS)
    exact = Decimal(found[2]) * unit_bytes
    nbytes = int(exact)
    if not found[3] and 0 < exact < least_plain:
        raise _without_unit(found[1] + found[2], what, from_mib)
    if nbytes > MAX_BYTES:
        raise RequestError(
            f"{what} is too large: {_short(text)!r}",
            f"at most {format_bytes(MAX_BYTES)} can be asked for",
            remedy=ACCEPTED_FORMS,
        )
    return -nbytes if found[1] == "-" else nbytes


def _without_unit(number: str, what: str, from_mib: int) -> RequestError:
    """With what to type: of a list of devices the one, of a flag with one value the whole, with =
    where a sign follows.

    what   "--vram CUDA0", "--ram", or words
    """
    value = Decimal(number)
    unit = "GiB" if abs(value) < (from_mib if value > 0 else LEFT_FROM_MIB) else "MiB"
    flag, _, device = what.partition(" ") if what.startswith("--") else ("", "", "")
    joint = "=" if device or value < 0 else " "
    typed = f"{device or flag}{joint}{number}" if flag else number
    if value != int(value):
        return RequestError(f"{what} has no unit: {number!r}", remedy=f"{typed}{unit}")
    return RequestError(
        f"{what} has no unit: {number!r} is {format_bytes(int(value))}",
        remedy=f"{typed}{unit}, or {number}B for so many bytes",
    )


def format_bytes(nbytes: int) -> str:
    """One decimal and a binary unit: "23.6 GiB"; whole bytes below 1 KiB: "512 B"."""
    size = float(abs(nbytes))
    sign = "-" if nbytes < 0 else ""
    if size < 1024:
        return f"{sign}{int(size)} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1023.95:  # 1023.95 and above would print as 1024.0
            return f"{sign}{size:.1f} {unit}"
    return f"{sign}{size / 1024:.1f} PiB"


def format_seconds(seconds: float) -> str:
    """Three digits and a unit: "12.3 ms"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def flag_bytes(nbytes: int) -> str:
    """Exactly these bytes as a flag takes them: "64MiB", "1500KiB", "1000B"."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes % size == 0:
            return f"{nbytes // size}{unit}"
    return f"{nbytes}B"


def token_count(text: str) -> int | None:
    """A number of tokens, "32768" or "32k"; None for anything else."""
    digits = text[:-1] if text[-1:] in ("k", "K") else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 12):
        return None
    return int(digits) * (1 if digits == text else 1024)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def rate(tokens_per_s: float) -> str:
    """Of tokens per second, three digits and more: "9.83", "72.1", "231"."""
    digits = 2 if tokens_per_s < 10 else 1 if tokens_per_s < 100 else 0
    return f"{tokens_per_s:.{digits}f}"
