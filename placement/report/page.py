"""The report as one self-contained page: the tables and bars of the text, nothing fetched from
anywhere, light or dark as the reader's system is.
"""

from collections.abc import Mapping, Sequence
from html import escape

from placement.inventory import ModelInventory
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.prediction import PARTS, Pace
from placement.report.device_memory import (
    CATEGORIES,
    DeviceMemory,
    alike,
    device_memory,
    device_rows,
    unloaded_texts,
)
from placement.report.page_style import COLOURS, STYLE, class_name
from placement.report.placement import layer_lines, rule_lines
from placement.report.speed import limit_lines, milliseconds, played_text, speed_rows, time_rows
from placement.report.text import Parts, model_lines, other_lines, workload_line
from placement.units import format_bytes

LEAST_WIDTH = 0.05  # of a piece of a bar that anyone could see
BAR_WIDTH, BAR_HEIGHT = 1000, 26  # of an SVG, in its own units; it is scaled to the page


def html_page(
    plan: PlacementPlan,
    inventory: ModelInventory,
    machine: Machine | None = None,
    parts: Parts | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """One HTML document. Arguments as `report.text_report` has them.

    more   further sections: a line of text by its title
    """
    memory = device_memory(plan, inventory, machine)
    title = f"Placement of {inventory.name}"
    stay = [f"In the file: {text}" for text in unloaded_texts(plan, inventory)]
    body = [
        f"<h1>{escape(title)}</h1>",
        _paragraphs([*model_lines(inventory), workload_line(plan)]),
        _section("Devices", _table(device_rows(memory)), _paragraphs(stay)),
        _section("Memory", _memory_bars(memory), _legend([*_used(memory), "free"])),
        _section("Other memory", _list(other_lines(parts or {}))),
        *_speed(plan),
        _section("Rules", _list(rule_lines(plan, inventory))),
        _section("Layers", _list(layer_lines(plan, inventory))),
        _section("Notes", _list(plan.notes)),
        *(_section(title, _paragraphs([text])) for title, text in (more or {}).items()),
        _section("Tensors", _tensors(plan)),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n{view}\n<style>\n{STYLE}</style>\n'
        f"</head>\n<body>\n{''.join(body)}</body>\n</html>\n"
    )


def _speed(plan: PlacementPlan) -> list[str]:
    prediction = plan.prediction
    if played := played_text(plan):
        return [_section("Speed", _paragraphs([played]))]
    if prediction is None:
        return []
    paces = [("decode", pace) for pace in prediction.decode]
    paces += [("prompt", pace) for pace in prediction.prompt]
    used = [part for part in PARTS if any(pace.seconds.get(part) for _, pace in paces)]
    return [
        _section(
            "Speed",
            _table(speed_rows(prediction)),
            _paragraphs(limit_lines(prediction)),
        ),
        _section(
            "Time of a token",
            _table(time_rows(prediction)),
            *(_time_bar(what, pace) for what, pace in paces),
            _legend(used),
        ),
    ]


def _section(title: str, *contents: str) -> str:
    filled = [content for content in contents if content]
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(filled)}</section>\n" if filled else ""


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>\n" for text in texts)


def _list(texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>\n" for text in texts)
    return f"<ul>\n{items}</ul>\n" if items else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in rows[0])
    lines = []
    for row in rows[1:]:
        cells = "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>\n')
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table>"
    return f'<div class="wide">{table}</div>\n'


def _used(memory: Sequence[DeviceMemory]) -> list[str]:
    there = {name for device in memory for name, nbytes in device.parts if nbytes}
    return [name for name in CATEGORIES if name in there]


def _memory_bars(memory: Sequence[DeviceMemory]) -> str:
    rows, pieces = [], []
    for device in memory:
        whole = max(device.budget_bytes, device.total_bytes)
        if not whole:
            continue
        parts = [(name, nbytes / whole, format_bytes(nbytes)) for name, nbytes in device.parts]
        rows.append([device.name, device.text, *(text for _, _, text in parts)])
        pieces.append(parts)
    return "".join(
        _bar(f"{names}: {rows[first][1]}", pieces[first]) for names, first in alike(rows)
    )


def _time_bar(what: str, pace: Pace) -> str:
    total = sum(pace.seconds.values())
    if not total:
        return ""
    names = dict.fromkeys([*PARTS, *pace.seconds])
    times = [(name, pace.seconds.get(name, 0.0)) for name in names]
    pieces = [(name, time / total, f"{milliseconds(time)} ms") for name, time in times]
    return _bar(f"{what} at {pace.depth}: {milliseconds(total)} ms a token", pieces)


def _bar(caption: str, pieces: Sequence[tuple[str, float, str]]) -> str:
    """One bar: (what, its share of the whole width, its size as text) from the left."""
    rectangles, left = [], 0.0
    for name, share, size in pieces:
        width = share * BAR_WIDTH
        if width < LEAST_WIDTH:
            continue
        rectangles.append(
            f'<rect class="{_class(name)}" x="{left:.2f}" y="0" width="{width:.2f}"'
            f' height="{BAR_HEIGHT}"><title>{escape(f"{name} {size}")}</title></rect>'
        )
        left += width
    frame = f'<rect class="free" x="0" y="0" width="{BAR_WIDTH}" height="{BAR_HEIGHT}"/>'
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>\n"
        f'<svg viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(caption)}">{frame}{"".join(rectangles)}</svg></figure>\n'
    )


def _legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<span><i class="{_class(name)}"></i>{escape(name)}</span>\n' for name in names
    )
    return f'<p class="legend">{items}</p>\n' if items else ""


def _class(name: str) -> str:
    """Of a category or a part of a token's time; a name that no colour is kept for is "rest"."""
    return class_name(name) if name in (*COLOURS, "free") else "rest"


def _tensors(plan: PlacementPlan) -> str:
    rows = [["tensor", "device", "bytes", "why"]]
    for part in plan.assignments:
        experts = f"#{part.experts[0]}-{part.experts[1]}" if part.experts else ""
        name = f"{part.tensor}{experts}"
        rows.append([name, part.device, format_bytes(part.nbytes), part.reason])
    summary = f"<summary>all {len(rows) - 1} of them, and why each is where it is</summary>\n"
    return f'<details class="tensors">\n{summary}{_table(rows)}</details>\n'
