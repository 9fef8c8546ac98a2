"""What a reader would conclude from a Snapshot, in words: what takes the time, what is amiss.

The thresholds are of attention, not of correctness: they only decide what is said first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hybrid.live.snapshot import (
    Comparison,
    DeviceView,
    MemoryView,
    Phase,
    RunFacts,
    Sensors,
    Snapshot,
)
from hybrid.tui.amounts import gb_s, limit_gb_s, mean_of, ms, percent, size, tokens_s

NEAR_FULL = 0.95  # of a device's memory, by all programs
CACHE_NEAR_FULL = 0.9
RAM_AT_LIMIT = 0.85  # of what was measured: the rest is lost between layers
RAM_SLOW = 0.7
LARGE_ERROR = 0.15  # where a prediction says no error of its own
BEGINNING_S = 5.0  # of a run: libraries' and the interpreter's own pages come then
DISC_SHARE = 0.05  # of the bytes that tokens read: less cannot be the weights
COSTLY_FAULTS_S = 100.0  # a hundredth of the time where a page takes a tenth of a millisecond
IDLE_PARTS = ("waiting", "other")
# Whose text ends where the cache does. `perplexity` and `bench` fill it to its end by design.
GROWING_TEXT = ("run", "chat")


@dataclass(frozen=True, slots=True)
class Slowest:
    """The longest work of a token: all GPUs' part together, as they work one after another.

    devices   "CUDA0", "16 GPUs", "CPU"
    kind      "gpu" or "cpu"
    """

    devices: str
    kind: str
    part: str
    seconds: float
    wall_s: float

    @property
    def share(self) -> float:
        return self.seconds / self.wall_s


def slowest(snapshot: Snapshot) -> Slowest | None:
    """None until a token was measured; waiting is no work."""
    wall = wall_seconds(snapshot)
    found: list[Slowest] = []
    for kind, plural in (("gpu", "GPUs"), ("cpu", "CPUs")):
        alike = [device for device in snapshot.devices if device.kind == kind]
        name = alike[0].name if len(alike) == 1 else f"{len(alike)} {plural}"
        parts = dict.fromkeys(part for device in alike for part in device.seconds)
        for part in parts:
            seconds = sum(device.seconds.get(part, 0.0) for device in alike)
            if part not in IDLE_PARTS:
                found.append(Slowest(name, kind, part, min(seconds, wall), wall))
    return max(found, key=lambda piece: piece.seconds, default=None) if wall > 0 else None


def wall_seconds(snapshot: Snapshot) -> float:
    """Of a token: the longest of all devices' sums, as each sums to it but for rounding."""
    return max((sum(device.seconds.values()) for device in snapshot.devices), default=0.0)


def reason(snapshot: Snapshot) -> str:
    """What a token's time went to, as measured; empty until one was."""
    found = slowest(snapshot)
    if found is None:
        return ""
    text = (
        f"{found.devices} {found.part} {ms(found.seconds)} of {ms(found.wall_s)} ms"
        f" ({percent(found.share)})"
    )
    read, limit = read_speed(snapshot)
    read = experts_speed(snapshot) or read
    share = mean_of(limit, read) if read is not None else None
    if found.part == "experts" and found.kind == "cpu" and share is not None:
        return f"{text}; RAM at {_ram_state(share, ram_limit(snapshot, limit))}"
    return text


def _ram_state(share: float, limit: str) -> str:
    if share >= RAM_AT_LIMIT:
        return f"{percent(share)} of {limit} GB/s, its limit"
    only = "only " if share < RAM_SLOW else ""
    its = "" if limit.startswith("about") else "its "
    return f"{only}{percent(share)} of {its}{limit} GB/s"


def read_speed(snapshot: Snapshot) -> tuple[float | None, float | None]:
    """Of all the RAM: bytes a second read, and the most. None where a node says none."""
    speeds = [(node.read_bytes_s, node.read_limit_bytes_s) for node in snapshot.nodes]
    if not speeds:
        speeds = [
            (device.read_bytes_s, device.read_limit_bytes_s)
            for device in snapshot.devices
            if device.kind == "cpu"
        ]
    read = [value for value, _ in speeds if value is not None]
    most = [value for _, value in speeds if value is not None]
    return (
        sum(read) if read and len(read) == len(speeds) else None,
        sum(most) if most and len(most) == len(speeds) else None,
    )


def experts_speed(snapshot: Snapshot) -> float | None:
    """Of all the RAM while experts are computed; None where a node that is read says none."""
    read = [
        node.experts_read_bytes_s for node in snapshot.nodes if node.read_limit_bytes_s is not None
    ]
    known = [value for value in read if value is not None]
    return sum(known) if known and len(known) == len(read) else None


def ram_limit(snapshot: Snapshot, limit: float | None) -> str:
    """GB/s in words: "338", "about 338" where it was not measured."""
    return limit_gb_s(
        limit, all(node.read_limit_is_measured is not False for node in snapshot.nodes)
    )


def difference(snapshot: Snapshot) -> float | None:
    """Measured against predicted tokens a second, as a share of the prediction."""
    its = snapshot.compared
    return its.actual_tok_s / its.predicted_tok_s - 1.0 if its and its.predicted_tok_s else None


def comparison(snapshot: Snapshot, phase: Phase) -> Comparison | None:
    """Where this phase goes on or went on last."""
    prompts = snapshot.phase is Phase.PROMPT
    return snapshot.compared if prompts == (phase is Phase.PROMPT) else None


def compared_speed(its: Comparison, phase: Phase) -> str:
    """What stands before the prediction that it is held against: no other speed shown is."""
    return f"{tokens_s(its.actual_tok_s)} {'lately' if phase is Phase.PROMPT else 'over 10 s'}"


def predicted_tok_s(snapshot: Snapshot, phase: Phase) -> float | None:
    """At the depth of now where this phase goes on or went on last, else with an empty cache."""
    its = comparison(snapshot, phase)
    if its is not None:
        return its.predicted_tok_s
    facts = snapshot.facts
    return facts.predicted_prompt_tok_s if phase is Phase.PROMPT else facts.predicted_decode_tok_s


def warnings(snapshot: Snapshot) -> list[str]:
    """What is amiss, the worst first."""
    return [
        *(text for device in snapshot.devices for text in _device_warnings(device, snapshot.facts)),
        *_host_warnings(snapshot),
        *snapshot.notes,
    ]


def _device_warnings(device: DeviceView, facts: RunFacts) -> Iterator[str]:
    if device.sensors is not None:
        yield from (f"{device.name} {text}" for text in sensor_warnings(device.sensors))
    text = memory_warning(device.memory)
    if text:
        yield f"{device.name} {text}"
    used, capacity = device.cache_used_tokens, device.cache_capacity_tokens
    grows = facts.command in GROWING_TEXT
    if grows and used is not None and capacity and used >= CACHE_NEAR_FULL * capacity:
        yield f"{device.name} cache {used} of {capacity} tokens"


def memory_warning(memory: MemoryView) -> str:
    """Over the budget, or near the end of the device; empty for neither."""
    held = memory.actual_bytes
    if held is not None and memory.budget_bytes and held > memory.budget_bytes:
        return f"holds {size(held)}, budget {size(memory.budget_bytes, held)}"
    used = memory.used_by_all_bytes
    if used is not None and memory.total_bytes and used >= NEAR_FULL * memory.total_bytes:
        return f"memory {size(used, memory.total_bytes)} of {size(memory.total_bytes)} in use"
    return ""


def sensor_warnings(sensors: Sensors) -> Iterator[str]:
    if sensors.throttle:
        yield f"slowed by {', '.join(sensors.throttle)}"
    width, most = sensors.link_width, sensors.link_most_width
    if width and most and width < most:
        yield f"PCIe x{width} of x{most}"


def _disc_warning(snapshot: Snapshot) -> str:
    """Weights that are read from the disc, or page faults of whatever; empty for neither.

    It is weights only where the disc gives a real part of what tokens read: a process has pages of
    programs and libraries too.
    """
    if snapshot.phase is Phase.LOADING or snapshot.at - snapshot.facts.started_at < BEGINNING_S:
        return ""
    faults, disc = snapshot.host.major_faults_s, snapshot.host.disc_read_bytes_s
    read, _ = read_speed(snapshot)
    if disc is not None and read and disc > DISC_SHARE * read:
        beside = f", {faults:.0f} page faults/s" if faults else ""
        return f"weights come from the disc: {gb_s(disc)} of {gb_s(read)} GB/s{beside}"
    if faults is not None and faults >= COSTLY_FAULTS_S:
        return f"{faults:.0f} page faults/s"
    return ""


def _host_warnings(snapshot: Snapshot) -> Iterator[str]:
    text = _disc_warning(snapshot)
    if text:
        yield text
    off, its = difference(snapshot), snapshot.compared
    allowed = snapshot.facts.predicted_error or LARGE_ERROR
    if off is not None and its is not None and off < -allowed:
        speeds = f"{tokens_s(its.actual_tok_s)} tok/s where {tokens_s(its.predicted_tok_s)}"
        yield f"{speeds} were predicted after {its.cached_tokens} tokens"
