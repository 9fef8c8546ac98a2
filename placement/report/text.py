"""Plan -> the text a person reads: devices by category with a bar each, what each rule did, layers
as ranges, predicted speed, notes.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from placement.inventory import ModelInventory
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.report.bars import BLOCKS, LETTERS, bar_lines
from placement.report.device_memory import device_memory, device_rows, unloaded_texts
from placement.report.placement import layer_lines, rule_lines
from placement.report.speed import limit_lines, played_text, speed_rows, time_rows
from placement.tensor_names import device_ranges
from placement.units import format_bytes
from placement.workload import Workload

MARGIN = 10  # columns of the left headings
# the category that the table has one column for, whatever is in it
OTHER = "other"


class MemoryPart(Protocol):
    """Bytes of a device that the table sums up."""

    @property
    def category(self) -> str: ...

    @property
    def what(self) -> str: ...

    @property
    def nbytes(self) -> int: ...


Parts = Mapping[str, Sequence[MemoryPart]]


@dataclass(frozen=True, slots=True)
class Page:
    """What a report is written on.

    width    columns; only the tables may be wider
    blocks   whether the reader's terminal shows block characters
    """

    width: int = 100
    blocks: bool = True


def text_report(
    plan: PlacementPlan,
    inventory: ModelInventory,
    machine: Machine | None = None,
    *,
    parts: Parts | None = None,
    page: Page = Page(),
) -> str:
    """The whole report; ends in a newline.

    machine   for NUMA nodes and links
    parts     by device, what its bytes are: those that the table calls "other" are listed
    """
    memory = device_memory(plan, inventory, machine)
    width = page.width
    bars = bar_lines(memory, max(width, 40) - MARGIN, BLOCKS if page.blocks else LETTERS)
    stay = [[f"{'in file':{MARGIN - 2}}", text] for text in unloaded_texts(plan, inventory)]
    sections = [
        _head("model", model_lines(inventory), width),
        _head("workload", [workload_line(plan)], width),
        [*table_lines(device_rows(memory)), *("  ".join(row) for row in stay)],
        _beside("memory", bars),
        _head("other", other_lines(parts or {}), width),
        _head("rules", rule_lines(plan, inventory), width),
        _head("layers", layer_lines(plan, inventory), width),
        *_speed_sections(plan, width),
        _head("notes", list(plan.notes), width),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def model_lines(inventory: ModelInventory) -> list[str]:
    """Name, blocks and bytes of the model; bytes by role."""
    shape = inventory.shape
    dense = f"{shape.dense_layers} dense, " if shape.dense_layers else ""
    sparse = f"{shape.layers - shape.dense_layers} with {shape.expert_count} experts"
    blocks = f" ({dense}{sparse})" if shape.expert_count else ""
    roles = sorted(inventory.by_role().items(), key=lambda item: -item[1])
    parts = ", ".join(f"{role.value.replace('_', ' ')} {format_bytes(n)}" for role, n in roles)
    title = f"{inventory.name} ({inventory.architecture}), {shape.layers} layers{blocks}"
    return [f"{title}, {format_bytes(inventory.nbytes)}", parts]


def workload_line(plan: PlacementPlan) -> str:
    """Context, micro-batch and cache format."""
    load = plan.workload
    return (
        f"context {load.context_tokens} tokens, micro-batch {load.ubatch_tokens},"
        f" cache {cache_text(load)}"
    )


def cache_text(load: Workload) -> str:
    """Format of the cache and, where it does not lie with the layers, its place."""
    return f"{load.cache_format}, all of it in RAM" if load.cache_in_ram else load.cache_format


def other_lines(parts: Parts) -> list[str]:
    """What the table calls "other", of devices that have the same of it in one line."""
    alike: dict[str, list[str]] = {}
    for name, those in parts.items():
        rest = [part for part in those if part.category == OTHER and part.nbytes]
        text = ", ".join(f"{part.what} {format_bytes(part.nbytes)}" for part in rest)
        if text:
            alike.setdefault(text, []).append(name)
    return [f"{device_ranges(names)}: {text}" for text, names in alike.items()]


def table_lines(rows: list[list[str]], first: int = MARGIN - 2) -> list[str]:
    """Columns two blanks apart, the first one flush left and at least `first` wide."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = max(widths[0], first)
    lines = []
    for row in rows:
        right = [f"{text:>{width}}" for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:{widths[0]}}", *right]).rstrip())
    return lines


def _speed_sections(plan: PlacementPlan, width: int) -> list[list[str]]:
    if played := played_text(plan):
        return [_head("speed", [played], width)]
    if plan.prediction is None:
        return []
    return [
        _beside("speed", table_lines(speed_rows(plan.prediction))),
        _beside("time", table_lines(time_rows(plan.prediction))),
        _head("", limit_lines(plan.prediction), width),
    ]


def _beside(title: str, lines: list[str]) -> list[str]:
    """Lines that keep their shape, with the heading on their left."""
    return [f"{title if i == 0 else '':{MARGIN}}{line}" for i, line in enumerate(lines)]


def _head(title: str, texts: list[str], width: int) -> list[str]:
    lines = []
    for i, text in enumerate(texts):
        start = f"{title if i == 0 else '':{MARGIN}}"
        lines += textwrap.wrap(
            text,
            max(width, 40),
            initial_indent=start,
            subsequent_indent=" " * (MARGIN + 4),
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines
