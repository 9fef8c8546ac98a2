"""The line under a device's bars: what it reads, what its cache holds, what NVML says of it."""

from dataclasses import dataclass
from functools import lru_cache

from hybrid.live.snapshot import DeviceView, Sensors
from hybrid.tui.amounts import gb_s, limit_gb_s, mean_of, percent
from hybrid.tui.findings import sensor_warnings
from hybrid.tui.lines import Line, filled, fitted, one_line
from hybrid.tui.look import Look

INDENT = 7
GAP = "  "


@dataclass(frozen=True, slots=True)
class Known:
    """What of a device the lines are made of; of two, the second is the most there can be."""

    sensors: Sensors | None
    description: str
    cache_tokens: tuple[int | None, int | None]
    read_bytes_s: tuple[float | None, float | None]
    limit_is_measured: bool | None
    crossing_bytes: int | None


def sensor_lines(device: DeviceView, width: int, most: int, look: Look) -> tuple[Line, ...]:
    """At most so many lines, what is amiss first; absent values are left out, not written."""
    known = Known(
        device.sensors,
        device.description,
        (device.cache_used_tokens, device.cache_capacity_tokens),
        (device.read_bytes_s, device.read_limit_bytes_s),
        device.read_limit_is_measured,
        device.crossing_bytes,
    )
    return _lines(known, width, look)[:most]


@lru_cache(maxsize=64)
def _lines(known: Known, width: int, look: Look) -> tuple[Line, ...]:
    """All of them; kept, as the layout asks for their number before they are drawn."""
    parts = _parts(known, look)
    lines: list[Line] = []
    while parts:
        line, parts = filled(parts, GAP, width - INDENT)
        lines.append(fitted([(" " * INDENT, ""), *line], width))
    return tuple(lines)


def _parts(known: Known, look: Look) -> list[Line]:
    sensors = known.sensors
    texts = _work_texts(known)
    parts: list[Line] = []
    if sensors is not None:
        parts += [[(text, "warning")] for text in sensor_warnings(sensors)]
        texts = [*_heat_texts(sensors, look), *texts, *_clock_texts(sensors)]
    parts += [[(text, "")] for text in texts]
    return [*parts, [(one_line(known.description), "faint")]] if known.description else parts


def _work_texts(known: Known) -> list[str]:
    texts = []
    used, capacity = known.cache_tokens
    if used is not None and capacity:
        texts.append(f"cache {used}/{capacity}")
    read, limit = known.read_bytes_s
    if read is not None:
        share = mean_of(limit, read)
        most = limit_gb_s(limit, known.limit_is_measured)
        text = f"reads {gb_s(read)}" + (f" of {most}" if limit is not None else "") + " GB/s"
        texts.append(text + (f" {percent(share)}" if share is not None else ""))
    if known.crossing_bytes is not None:
        texts.append(f"crossing {known.crossing_bytes / 1024:.0f} KiB a token")
    return texts


def _heat_texts(sensors: Sensors, look: Look) -> list[str]:
    texts = []
    if sensors.temperature_c is not None:
        texts.append(f"{sensors.temperature_c:.0f}{look.degree}")
    if sensors.power_w is not None:
        most = "" if sensors.power_limit_w is None else f"/{sensors.power_limit_w:.0f}"
        texts.append(f"{sensors.power_w:.0f}{most} W")
    return [*texts, *(text for text in (_link(sensors), _traffic(sensors)) if text)]


def _clock_texts(sensors: Sensors) -> list[str]:
    texts = []
    if sensors.sm_clock_mhz is not None:
        texts.append(f"SM {sensors.sm_clock_mhz} MHz")
    if sensors.memory_clock_mhz is not None:
        texts.append(f"memory {sensors.memory_clock_mhz} MHz")
    if sensors.busy_share is not None:
        texts.append(f"busy {percent(sensors.busy_share)}")
    if sensors.throttle == ():
        texts.append("not throttled")
    return texts


def _link(sensors: Sensors) -> str:
    if sensors.link_generation is None or sensors.link_width is None:
        return ""
    now = (sensors.link_generation, sensors.link_width)
    most = (sensors.link_most_generation, sensors.link_most_width)
    text = f"PCIe {now[0]} x{now[1]}"
    if None in most or now == most:
        return text
    return f"{text} (can {most[0]} x{most[1]})"


def _traffic(sensors: Sensors) -> str:
    sent, received = sensors.link_sent_bytes_s, sensors.link_received_bytes_s
    texts = [
        f"{word} {gb_s(value)}"
        for word, value in (("in", sent), ("out", received))
        if value is not None
    ]
    return f"{' '.join(texts)} GB/s" if texts else ""
