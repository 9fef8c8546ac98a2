"""What the sources give, as plain data. None where one does not tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hybrid.live.snapshot import HostView, Sensors


@dataclass(frozen=True, slots=True)
class GpuReading:
    """Of one GPU.

    used_bytes   by every program
    """

    sensors: Sensors
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NodeReading:
    """Of one NUMA node.

    used_bytes   not free and not to be dropped
    core_load    shares, in order of its usable cores; empty on the first reading
    """

    total_bytes: int | None = None
    used_bytes: int | None = None
    core_load: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class HostReading:
    """Of the host and of this process.

    nodes        by the system's number; the whole host is node 0 where the system lists none
    used_bytes   of the host's RAM, by every program
    """

    view: HostView = HostView()
    nodes: Mapping[int, NodeReading] = field(default_factory=dict)
    used_bytes: int | None = None
