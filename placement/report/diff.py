"""Two plans side by side: what lies elsewhere, bytes per device, speeds, what was asked for."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from placement.machines.machine import UNLOADED
from placement.memory.file_map import without_map
from placement.plan import Assignment, DeviceUse, PlacementPlan
from placement.rules import Rule
from placement.tensor_names import name_ranges, number_ranges
from placement.units import format_bytes, rate

# experts, device before, device after, bytes
Piece = tuple[tuple[int, int] | None, str, str, int]

ABSENT = "absent"  # the device of a tensor that one of the plans does not know
WORDS = {UNLOADED: "left in the file", ABSENT: "not in this model"}  # in place of a device


@dataclass(frozen=True, slots=True)
class Move:
    """Tensors, or the same experts of them, that lie elsewhere in the second plan."""

    names: tuple[str, ...]
    experts: tuple[int, int] | None
    before: str
    after: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was asked for or came out, before and after."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """From the first plan to the second; empty where they are alike.

    asked     workload, rules, model
    moves     largest first
    homes     of blocks, by layer ranges
    devices   total bytes and budgets, all devices of both
    speeds    of predictions; "-" where one plan has none
    """

    asked: tuple[Change, ...]
    moves: tuple[Move, ...]
    homes: tuple[Change, ...]
    devices: tuple[Change, ...]
    speeds: tuple[Change, ...]


def diff_plans(before: PlacementPlan, after: PlacementPlan) -> PlanDiff:
    """What the second plan does otherwise."""
    return PlanDiff(
        asked=tuple(_asked(before, after)),
        moves=tuple(_moves(before, after)),
        homes=tuple(_homes(before.layers, after.layers)),
        devices=tuple(_devices(before, after)),
        speeds=tuple(_speeds(before, after)),
    )


def models_note(before: PlacementPlan, after: PlacementPlan) -> str | None:
    """That the plans are not of one file, if so: tensors are compared by their names alone."""
    old, new = (
        (plan.model, f"{plan.model} ({plan.architecture}, {format_bytes(plan.model_bytes)})")
        for plan in (before, after)
    )
    if (old, before.model_bytes) == (new, after.model_bytes):
        return None
    what = "different files of one model" if old[0] == new[0] else "different models"
    return f"the plans are of {what}, {old[1]} and {new[1]}: tensors are compared by name alone"


def diff_text(diff: PlanDiff, width: int = 100) -> str:
    """The report of a difference; names of tensors are wrapped. Ends in a newline."""
    sections = [
        _changes("asked", diff.asked),
        _move_lines(diff.moves, width),
        _changes("blocks at home", diff.homes),
        _changes("device", diff.devices),
        _changes("speed", diff.speeds),
    ]
    filled = [section for section in sections if section]
    if not (diff.asked or diff.moves or diff.homes):
        filled.insert(0, ["the plans place everything alike"])
    return "\n\n".join("\n".join(section) for section in filled) + "\n"


def _asked(before: PlacementPlan, after: PlacementPlan) -> list[Change]:
    changes = []
    for what, old, new in (
        ("model", before.model, after.model),
        ("model bytes", before.model_bytes, after.model_bytes),
    ):
        if old != new:
            changes.append(Change(what, str(old), str(new)))
    new_load = asdict(after.workload)
    for name, value in asdict(before.workload).items():
        if new_load[name] != value:
            changes.append(Change(name.replace("_", " "), str(value), str(new_load[name])))
    return [*changes, *_rule_changes(before.rules, after.rules)]


def _rule_changes(before: Sequence[Rule], after: Sequence[Rule]) -> list[Change]:
    gone = [Change("rule", rule.source, "-") for rule in before if rule not in after]
    new = [Change("rule", "-", rule.source) for rule in after if rule not in before]
    if not gone and not new and before != after:
        return [
            Change("order of rules", *(" ".join(r.source for r in rs) for rs in (before, after)))
        ]
    return [*gone, *new]


def _moves(before: PlacementPlan, after: PlacementPlan) -> list[Move]:
    """Pieces of tensors that changed device; alike ones of several tensors are one move."""
    old, new = _parts(before), _parts(after)
    groups: dict[tuple[tuple[int, int] | None, str, str], list[tuple[str, int]]] = {}
    for name in dict.fromkeys([*old, *new]):
        for experts, was, now, nbytes in _changed(old.get(name, []), new.get(name, [])):
            groups.setdefault((experts, was, now), []).append((name, nbytes))
    moves = [
        Move(tuple(name for name, _ in those), experts, was, now, sum(n for _, n in those))
        for (experts, was, now), those in groups.items()
    ]
    return sorted(moves, key=lambda move: -move.nbytes)


def _parts(plan: PlacementPlan) -> dict[str, list[Assignment]]:
    parts: dict[str, list[Assignment]] = {}
    for part in plan.assignments:
        parts.setdefault(part.tensor, []).append(part)
    return parts


def _changed(old: list[Assignment], new: list[Assignment]) -> list[Piece]:
    """Every piece of one tensor that moved."""
    if not old or not new:
        there = old or new
        places = ("", ABSENT) if old else (ABSENT, "")
        return [
            (part.experts, places[0] or part.device, places[1] or part.device, part.nbytes)
            for part in there
        ]
    if all(part.experts is None for part in (*old, *new)):
        was, now = old[0].device, new[0].device
        return [] if was == now else [(None, was, now, old[0].nbytes)]
    firsts = {part.experts[0] for part in (*old, *new) if part.experts}
    cuts = sorted(firsts | {0, min(_experts(old), _experts(new))})
    count = max(_experts(old), _experts(new))
    pieces: list[Piece] = []
    for first, end in zip(cuts, [*cuts[1:], count], strict=True):
        was, now = _holder(old, first), _holder(new, first)
        if was != now:
            nbytes = _bytes_of(new if was == ABSENT else old, first, end, count)
            pieces.append(((first, end - 1), was, now, nbytes))
    return pieces


def _experts(parts: list[Assignment]) -> int:
    """How many the ranges reach over; 0 where all are in one part."""
    return max((part.experts[1] + 1 for part in parts if part.experts), default=0)


def _bytes_of(parts: list[Assignment], first: int, end: int, count: int) -> int:
    """Of the experts from first to before end.

    count   of all experts, where the parts do not tell
    """
    total, count = sum(part.nbytes for part in parts), _experts(parts) or count
    return total * end // count - total * first // count


def _holder(parts: list[Assignment], expert: int) -> str:
    """ABSENT for an expert that only the other plan's model has."""
    held = (
        part.device
        for part in parts
        if part.experts is None or part.experts[0] <= expert <= part.experts[1]
    )
    return next(held, ABSENT)


def _homes(before: Sequence[str], after: Sequence[str]) -> list[Change]:
    changed: dict[tuple[str, str], list[int]] = {}
    for layer, (was, now) in enumerate(zip(before, after, strict=False)):
        if was != now:
            changed.setdefault((was, now), []).append(layer)
    return [
        Change(f"blk.{number_ranges(layers).replace(', ', ',')}", was, now)
        for (was, now), layers in changed.items()
    ]


def _devices(before: PlacementPlan, after: PlacementPlan) -> list[Change]:
    old, new = ({use.name: use for use in plan.devices} for plan in (before, after))
    changes = []
    for name in dict.fromkeys([*old, *new]):
        sides = []
        for plan, use in ((before, old.get(name)), (after, new.get(name))):
            sides.append(_filled(plan, use) if use else "-")
        changes.append(Change(name, sides[0], sides[1]))
    return changes


def _filled(plan: PlacementPlan, use: DeviceUse) -> str:
    budget = without_map(plan, use).budget_bytes
    return f"{format_bytes(use.total_bytes)} of {format_bytes(budget)}"


def _speeds(before: PlacementPlan, after: PlacementPlan) -> list[Change]:
    if before.prediction is None or after.prediction is None:
        return []
    changes = []
    for what in ("decode", "prompt"):
        old, new = (
            {pace.depth: pace.tokens_per_s for pace in getattr(plan.prediction, what)}
            for plan in (before, after)
        )
        for depth in sorted(old.keys() | new.keys()):
            sides = [f"{rate(s[depth])} tok/s" if depth in s else "-" for s in (old, new)]
            changes.append(Change(f"{what} at {depth}", sides[0], sides[1]))
    return changes


def _changes(title: str, changes: Sequence[Change]) -> list[str]:
    rows = [[change.what, change.before, change.after] for change in changes]
    return _lines([[title, "before", "after"], *rows]) if rows else []


def _move_lines(moves: Sequence[Move], width: int) -> list[str]:
    """Sizes and devices in columns, what moved behind them."""
    if not moves:
        return []
    rows = [["moved", "tensors", "before", "after", ""]]
    for move in moves:
        places = [WORDS.get(place, place) for place in (move.before, move.after)]
        rows.append([format_bytes(move.nbytes), str(len(move.names)), *places, ""])
    heads = [line.rstrip() for line in _lines(rows)]
    indent = max(map(len, heads)) + 2
    lines = [heads[0]]
    for head, move in zip(heads[1:], moves, strict=True):
        experts = f"#{move.experts[0]}-{move.experts[1]}" if move.experts else ""
        names = ", ".join(f"{name}{experts}" for name in name_ranges(move.names))
        lines += textwrap.wrap(
            names,
            max(width, indent + 40),
            initial_indent=f"{head:{indent}}",
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines


def _lines(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
