"""RAM: is it read at its speed. One gauge per NUMA node against what the machine was measured at,
its experts' time, what it holds, and its cores' load.
"""

from collections.abc import Sequence
from typing import TypeVar

from hybrid.live.snapshot import HostView, NodeView, Snapshot
from hybrid.tui.amounts import gb_s, limit_gb_s, mean_of, ms, percent, size
from hybrid.tui.bars import folded, gauge, heights
from hybrid.tui.findings import COSTLY_FAULTS_S, RAM_AT_LIMIT, RAM_SLOW
from hybrid.tui.lines import Line, fitted, joined
from hybrid.tui.look import Look

NAME = 7
LEAST_CORES = 4  # cells of a core strip that still says something
WIDE_GAUGE = 30

Number = TypeVar("Number", int, float)


def ram(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """A line per node, or one for all where they do not fit; then the process's own line."""
    nodes = snapshot.nodes if len(snapshot.nodes) <= height else _together(snapshot.nodes)
    lines = [_node_line(name, node, width, look) for name, node in _named(nodes, snapshot.nodes)]
    own = _host_line(snapshot.host, width, look)
    return [*lines, own][:height] if own else lines


def _named(shown: Sequence[NodeView], nodes: Sequence[NodeView]) -> list[tuple[str, NodeView]]:
    if len(shown) < len(nodes):
        return [(f"{len(nodes)} nodes", node) for node in shown]
    return [(f"node {node.node}", node) for node in shown]


def _together(nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
    """All nodes as one: sums, the slowest one's time; absent where it is of any."""
    times = [node.experts_s for node in nodes if node.experts_s is not None]
    return (
        NodeView(
            node=-1,
            total_bytes=_sum([node.total_bytes for node in nodes]),
            used_bytes=_sum([node.used_bytes for node in nodes]),
            ours_bytes=_sum([node.ours_bytes for node in nodes]),
            read_bytes_s=_sum([node.read_bytes_s for node in nodes]),
            read_limit_bytes_s=_sum([node.read_limit_bytes_s for node in nodes]),
            read_limit_is_measured=all(n.read_limit_is_measured is not False for n in nodes),
            experts_read_bytes_s=_sum([node.experts_read_bytes_s for node in nodes]),
            experts_s=max(times, default=None),
            huge_bytes=_sum([node.huge_bytes for node in nodes]),
            core_load=tuple(load for node in nodes for load in node.core_load),
        ),
    )


def _sum(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(values) else None


def rows(snapshot: Snapshot, look: Look) -> int:
    return len(snapshot.nodes) + bool(_host_line(snapshot.host, 80, look))


def _node_line(title: str, node: NodeView, width: int, look: Look) -> Line:
    cells = min(max(width // 6, 8), WIDE_GAUGE)
    read, share = _read(node), None
    if read is not None:
        share = mean_of(node.read_limit_bytes_s, read)
    name = [(f"{title:{NAME}} ", "strong")]
    line: Line = [*name, *gauge(share, cells, look, _gauge_colour(share)), (" ", "")]
    numbers = joined(_numbers(node, share), "  ", width - NAME - cells - 2)
    left = width - NAME - cells - 2 - sum(len(text) for text, _ in numbers)
    return fitted([*line, *numbers, *_cores(node.core_load, left, look)], width)


def _read(node: NodeView) -> float | None:
    """While its cores are in experts where that is known: between them nobody wants its RAM."""
    return node.experts_read_bytes_s or node.read_bytes_s


def _gauge_colour(share: float | None) -> str:
    if share is not None and share >= RAM_AT_LIMIT:
        return "done"
    return "attention" if share is None or share >= RAM_SLOW else "warning"


def _numbers(node: NodeView, share: float | None) -> list[Line]:
    """The speed stands even where nothing says it: its absence is an answer too."""
    limit = node.read_limit_bytes_s
    most = limit_gb_s(limit, node.read_limit_is_measured)
    of = f" of {most}" if limit is not None else ""
    parts: list[Line] = [[(f"{gb_s(_read(node)):>4}{of} GB/s", "strong")]]
    if share is not None:
        parts.append([(f"{percent(share)}", "")])
    if node.experts_s is not None:
        when = "in experts" if node.experts_read_bytes_s else "experts"
        parts.append([(f"{when} {ms(node.experts_s)} ms", "")])
    if node.used_bytes is not None and node.total_bytes is not None:
        parts.append([(f"{size(node.used_bytes, node.total_bytes)}/{size(node.total_bytes)}", "")])
    if node.ours_bytes is not None:
        parts.append([(f"ours {size(node.ours_bytes, node.total_bytes)}", "")])
        if node.huge_bytes is not None and node.ours_bytes:
            parts.append([(f"huge {percent(node.huge_bytes / node.ours_bytes)}", "")])
    return parts


def _cores(load: Sequence[float], left: int, look: Look) -> Line:
    """Each core's load as a height; several cores in one cell where they are many."""
    title = "  cores "
    cells = left - len(title) - 1
    if not load or cells < LEAST_CORES:
        return []
    groups = folded(len(load), cells)
    means = [sum(load[index] for index in group) / len(group) for group in groups]
    strip = heights([max(mean, 0.01) for mean in means], 1.0, look)
    return [(title, "faint"), (strip, "done")]


def _host_line(host: HostView, width: int, look: Look) -> Line:
    parts: list[Line] = []
    if host.resident_bytes is not None:
        parts.append([(f"resident {size(host.resident_bytes)}", "")])
    if host.huge_bytes is not None and host.resident_bytes:
        parts.append([(f"huge pages {percent(host.huge_bytes / host.resident_bytes)}", "")])
    if host.major_faults_s is not None:
        name = "warning" if host.major_faults_s >= COSTLY_FAULTS_S else ""
        parts.append([(f"faults {host.major_faults_s:.0f}/s", name)])
    elif host.major_faults is not None:
        parts.append([(f"faults {host.major_faults}", "")])
    if host.disc_read_bytes_s is not None:
        parts.append([(f"disc {gb_s(host.disc_read_bytes_s)} GB/s", "")])
    if host.load_share is not None:
        parts.append([(f"all cores {percent(host.load_share)}", "")])
    if not parts:
        return []
    line = joined(parts, look.join, width - NAME)
    return fitted([(f"{'process':{NAME}}"[:NAME], "strong"), (" ", ""), *line], width)
