"""What a run and its watchers say to each other over the socket: lines of JSON.

    run      {"version": 1, "pid": 4711, "command": "run", "model": "...", "started_at": ...}
    watcher  {"every_s": 0.25}
    run      a snapshot (codec.py) at once, and then every so often, the last one when it ends

Nothing is measured before the watcher asks. Both check that the other is the same user.

Expert counts take three quarters of the time that a large model's snapshot takes to be written.
They change slowly and are sent now and then: none in a snapshot means that they are as they were.
"""

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass, replace
from typing import Any

from hybrid.live.codec import VERSION
from hybrid.live.snapshot import Snapshot

MOST_LINE = 16 << 20  # of a snapshot; 61 layers of 256 experts take 0.1 MB
MOST_REQUEST = 4096
FASTEST_S, SLOWEST_S = 0.05, 60.0
COUNTS_EVERY_S = 5.0
_CREDENTIALS = struct.Struct("3i")  # process, user, group


@dataclass(frozen=True, slots=True)
class Hello:
    """What a run says of itself to whoever connects."""

    pid: int
    command: str
    model: str
    started_at: float


def hello_line(hello: Hello) -> bytes:
    return json.dumps({"version": VERSION, **asdict(hello)}).encode() + b"\n"


def read_hello(line: bytes) -> Hello | None:
    """None for anything else."""
    value = _object(line)
    kinds = {"pid": int, "command": str, "model": str, "started_at": (int, float)}
    if value.get("version") != VERSION:
        return None
    if not all(isinstance(value.get(name), kind) for name, kind in kinds.items()):  # type: ignore[arg-type]
        return None
    return Hello(**{name: value[name] for name in kinds})


def request_line(every_s: float) -> bytes:
    return json.dumps({"every_s": every_s}).encode() + b"\n"


def read_request(line: bytes) -> float | None:
    """Seconds between snapshots, within bounds; None for anything else."""
    every_s = _object(line).get("every_s")
    if isinstance(every_s, bool) or not isinstance(every_s, (int, float)):
        return None
    if every_s != every_s:
        return None
    return float(min(max(every_s, FASTEST_S), SLOWEST_S))  # an int may be too large for a float


def has_counts(snapshot: Snapshot) -> bool:
    return any(layer.usage for layer in snapshot.layers)


def without_counts(snapshot: Snapshot) -> Snapshot:
    """To be sent between two snapshots that have them."""
    return replace(snapshot, layers=tuple(replace(layer, usage=()) for layer in snapshot.layers))


def with_counts(snapshot: Snapshot, last: Snapshot | None) -> Snapshot:
    """The same with the counts of the last one, where it has none and is of the same engine."""
    if last is None or last.facts != snapshot.facts or has_counts(snapshot):
        return snapshot
    if not has_counts(last):
        return snapshot
    layers = zip(snapshot.layers, last.layers, strict=True)
    return replace(snapshot, layers=tuple(replace(its, usage=was.usage) for its, was in layers))


def peer_is_us(connection: socket.socket) -> bool:
    """Whether the same user is at the other end. Where the system cannot tell, the folder's mode
    has kept others out.
    """
    asked = getattr(socket, "SO_PEERCRED", None)
    if asked is None:
        return True
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, asked, _CREDENTIALS.size)
    except OSError:
        return False
    _, user, _ = _CREDENTIALS.unpack(found)
    return bool(user == os.geteuid())


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
