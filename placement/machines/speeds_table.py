"""Figures of speeds as tables of a TOML file, both ways: for machine files and profiles.

Figures are values of `HostSpeeds` or `GpuSpeeds` by name, as many as somebody measured or gave;
`estimates.speeds_from` makes speeds of them.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from placement.machines.speeds import GpuSpeeds, HostSpeeds
from placement.machines.toml_table import MOST, Table

MOST_SHARE = 1.5  # products from caches beside memory may seem faster than reads
DIGITS = 4  # of a figure, more than any measurement repeats
PAIRS = {
    "by_threads": "[[1, 16.0], [2, 29.0]], threads and GB/s",
    "by_node": "[[0, 85.0], [1, 84.0]], nodes and GB/s",
}

Figures = Mapping[str, Any]


def figure_names(kind: type[HostSpeeds] | type[GpuSpeeds]) -> tuple[str, ...]:
    """Of the figures that are one number."""
    return tuple(field.name for field in fields(kind) if field.type is float)


def needed_names(kind: type[HostSpeeds] | type[GpuSpeeds]) -> tuple[str, ...]:
    """Of those of them that a machine is known by; the others have defaults for all machines."""
    return tuple(f.name for f in fields(kind) if f.type is float and f.default is MISSING)


def figure_homes() -> dict[str, str]:
    """Figure -> the tables of a machine file that may have it, for errors about it elsewhere."""
    homes: dict[str, str] = {}
    for kind, table in ((HostSpeeds, "[host.speeds]"), (GpuSpeeds, "[gpu.speeds]")):
        for name in (*figure_names(kind), *(PAIRS if kind is HostSpeeds else ())):
            homes[name] = f"{homes[name]} or {table}" if name in homes else table
    return homes


def read_figures(table: Table, kind: type[HostSpeeds] | type[GpuSpeeds]) -> Figures:
    """Those that the table has. Raises RequestError, also for a name that is no figure."""
    names = figure_names(kind)
    figures: dict[str, Any] = {
        name: table.number(name, MOST_SHARE if name.endswith("_share") else MOST)
        for name in names
        if table.has(name)
    }
    if kind is HostSpeeds:
        figures |= {
            name: table.pairs(name, example) for name, example in PAIRS.items() if table.has(name)
        }
    table.offer([*names, *(PAIRS if kind is HostSpeeds else ())])
    table.finish()
    return figures


def all_figures(speeds: HostSpeeds | GpuSpeeds) -> Figures:
    """Those that somebody measured or gave: not what stands there by default."""
    usual = {field.name: field.default for field in fields(speeds)}
    return {name: value for name, value in asdict(speeds).items() if value != usual[name]}


def figure_values(figures: Figures) -> dict[str, Any]:
    """As `toml_lines` takes them, to DIGITS digits."""
    return {
        name: rounded(value)
        if isinstance(value, float)
        else [[count, rounded(rate)] for count, rate in value]
        for name, value in figures.items()
    }


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
