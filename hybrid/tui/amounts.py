"""Numbers as the screen writes them; "-" for what no source says."""

from placement.units import rate

ABSENT = "-"
LEAST_GIB = (1 << 30) - (1 << 19)  # from which whole MiB would be 1024


def tokens_s(value: float | None) -> str:
    return ABSENT if value is None else rate(value)


def ms(seconds: float | None) -> str:
    """Three digits without the unit: "0.41", "12.1", "101", "2.4k"."""
    if seconds is None:
        return ABSENT
    value = seconds * 1e3
    if value >= 10_000:
        return f"{value / 1e3:.1f}k"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def size(nbytes: int | None, beside: int | None = None) -> str:
    """ "16.3 GiB", below that "312 MiB"; without the unit where that of `beside`, a size written
    next to it, is the same: "0.41", "412".
    """
    if nbytes is None:
        return ABSENT
    number, unit = _binary(nbytes)
    same = beside is not None and (unit == _binary(beside)[1] or not nbytes)
    return number if same else f"{number} {unit}"


def short_size(nbytes: int) -> str:
    """ "22.2G", "312M"."""
    number, unit = _binary(nbytes)
    return f"{number}{unit[0]}"


def _binary(nbytes: int) -> tuple[str, str]:
    """Three digits of the number, and its unit."""
    power, unit = (30, "GiB") if nbytes >= LEAST_GIB else (20, "MiB")
    value = nbytes / (1 << power)
    digits = 2 if 0 < value < 9.995 and unit == "MiB" else 1 if 0 < value < 99.95 else 0
    return f"{value:.{digits}f}", unit


def gb_s(bytes_s: float | None) -> str:
    """Without the unit, powers of 1000 as data sheets have them."""
    if bytes_s is None:
        return ABSENT
    value = bytes_s / 1e9
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def percent(share: float | None) -> str:
    return ABSENT if share is None else f"{share * 100:.0f} %"


def signed_percent(share: float) -> str:
    """ "+4 %", "-12 %"; "as predicted" is for a difference that rounds to nothing."""
    return f"{share * 100:+.0f} %" if abs(share) >= 0.005 else "0 %"


def duration(seconds: float | None) -> str:
    """ "8 s", "3:05", "2:03:05"."""
    if seconds is None:
        return ABSENT
    whole = int(max(seconds, 0.0) + 0.5)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{rest // 60}:{rest % 60:02}"


def count(value: float | None) -> str:
    """ "812", "12.4k", "3.1M"."""
    if value is None:
        return ABSENT
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f}{unit}"
    return f"{value:.0f}"


def limit_gb_s(bytes_s: float | None, is_measured: bool | None) -> str:
    """ "338", "about 338" of an estimate."""
    return gb_s(bytes_s) if is_measured is not False else f"about {gb_s(bytes_s)}"


def mean_of(whole: float | None, parts: float) -> float | None:
    """A share, None where either is absent or the whole is nothing."""
    return None if whole is None or whole <= 0 else parts / whole
