"""`MachineSpeeds` as tables of a TOML file, both ways: for machine files and profiles."""

from dataclasses import asdict, fields, replace
from typing import Any

from placement.speeds import GpuSpeeds, HostSpeeds
from placement.toml_table import MOST, Table

MOST_SHARE = 1.5  # products from caches beside memory may seem faster than reads
DIGITS = 4  # of a figure, more than any measurement repeats
THREADS_EXAMPLE = "[[1, 16.0], [2, 29.0]], threads and GB/s"
NODES_EXAMPLE = "[[0, 85.0], [1, 84.0]], nodes and GB/s"


def read_host_speeds(table: Table, known: HostSpeeds) -> HostSpeeds:
    """`known` with the figures that the table has. Raises RequestError."""
    given: dict[str, Any] = dict(_figures(table, HostSpeeds))
    if threads := table.pairs("by_threads", THREADS_EXAMPLE):
        given["by_threads"] = threads
    if nodes := table.pairs("by_node", NODES_EXAMPLE):
        given["by_node"] = nodes
    table.offer(figure_names(HostSpeeds))
    table.finish()
    return replace(known, **given)


def read_gpu_speeds(table: Table, known: GpuSpeeds) -> GpuSpeeds:
    """`known` with the figures that the table has. Raises RequestError."""
    given = _figures(table, GpuSpeeds)
    table.offer(figure_names(GpuSpeeds))
    table.finish()
    return replace(known, **given)


def speeds_values(speeds: HostSpeeds | GpuSpeeds) -> dict[str, Any]:
    """The figures as `toml_lines` takes them."""
    values: dict[str, Any] = {}
    for name, value in asdict(speeds).items():
        if isinstance(value, float):
            values[name] = rounded(value)
        elif value:
            values[name] = [[count, rounded(rate)] for count, rate in value]
    return values


def figure_names(kind: type[HostSpeeds] | type[GpuSpeeds]) -> tuple[str, ...]:
    """Of the figures that are one number."""
    return tuple(field.name for field in fields(kind) if field.type is float)


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _figures(table: Table, kind: type[HostSpeeds] | type[GpuSpeeds]) -> dict[str, float]:
    """Those that the table has, by name."""
    return {
        name: table.number(name, MOST_SHARE if name.endswith("_share") else MOST)
        for name in figure_names(kind)
        if table.has(name)
    }
