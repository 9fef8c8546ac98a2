"""Plan -> the text a person reads: devices by category, what each rule did, layers as ranges,
notes.
"""

import textwrap

from placement.claims import rule_effects
from placement.inventory import ModelInventory, Role
from placement.machine import UNLOADED
from placement.notes import number_ranges
from placement.plan import PlacementPlan
from placement.units import format_bytes
from placement.workload import Workload

# column -> roles whose weights it sums; a column without bytes is left out
GROUPS = {
    "attention": (Role.ATTENTION, Role.NORM),
    "dense": (Role.DENSE_FFN,),
    "shared": (Role.SHARED_EXPERT, Role.ROUTER),
    "routed": (Role.ROUTED_EXPERT,),
    "embed+head": (Role.EMBEDDING, Role.HEAD),
}
GROUP_OF = {role: group for group, roles in GROUPS.items() for role in roles}
# in the lines of layers, parts of a group that are named only where they part from the rest of it
PARTS = {Role.NORM: "norms", Role.ROUTER: "router"}
WHOLE_OF = {"norms": "attention", "router": "shared"}
LINE_ORDER = ("attention", "norms", "dense", "shared", "router", "routed")
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
MARGIN = 10  # columns of the left headings


def text_report(plan: PlacementPlan, inventory: ModelInventory, width: int = 100) -> str:
    """The whole report, wrapped at `width` but for the device table; ends in a newline."""
    sections = [
        _head("model", _model_lines(inventory), width),
        _head("workload", _workload_lines(plan), width),
        _table(_device_rows(plan, inventory)),
        _head("rules", _rule_lines(plan, inventory), width),
        _head("layers", _layer_lines(plan, inventory), width),
        _head("notes", list(plan.notes), width),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


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


def _model_lines(inventory: ModelInventory) -> list[str]:
    shape = inventory.shape
    dense = f"{shape.dense_layers} dense, " if shape.dense_layers else ""
    sparse = f"{shape.layers - shape.dense_layers} with {shape.expert_count} experts"
    blocks = f" ({dense}{sparse})" if shape.expert_count else ""
    roles = sorted(inventory.by_role().items(), key=lambda item: -item[1])
    parts = ", ".join(f"{role.value.replace('_', ' ')} {format_bytes(n)}" for role, n in roles)
    title = f"{inventory.name} ({inventory.architecture}), {shape.layers} layers{blocks}"
    return [f"{title}, {format_bytes(inventory.nbytes)}", parts]


def _workload_lines(plan: PlacementPlan) -> list[str]:
    load = plan.workload
    return [
        f"context {load.context_tokens} tokens, micro-batch {load.ubatch_tokens},"
        f" cache {cache_text(load)}"
    ]


def cache_text(load: Workload) -> str:
    """Format of the cache and, where it does not lie with the layers, its place."""
    return f"{load.cache_format}, all of it in RAM" if load.cache_in_ram else load.cache_format


def _device_rows(plan: PlacementPlan, inventory: ModelInventory) -> list[list[str]]:
    roles = {tensor.name: tensor.role for tensor in inventory.tensors}
    groups: dict[tuple[str, str], int] = {}
    unloaded = 0
    for part in plan.assignments:
        if part.device == UNLOADED:
            unloaded += part.nbytes
            continue
        key = (part.device, GROUP_OF[roles[part.tensor]])
        groups[key] = groups.get(key, 0) + part.nbytes
    columns = [group for group in GROUPS if any(used == group for _, used in groups)]
    unit = _unit(max(use.total_bytes for use in plan.devices))
    heads = [*columns, "cache", "compute", "total", "budget", "headroom"]
    rows = [[f"in {unit}", *heads]]
    for use in plan.devices:
        sizes = [groups.get((use.name, column), 0) for column in columns]
        sizes += [use.cache_bytes, use.compute_bytes, use.total_bytes]
        limits = [use.budget_bytes, use.budget_bytes - use.total_bytes]
        numbers = [f"{n / UNITS[unit]:.2f}" if n else "-" for n in sizes]
        rows.append([use.name, *numbers, *(format_bytes(n) for n in limits)])
    if unloaded:
        rows.append(["in file", f"{format_bytes(unloaded)} not loaded"])
    return rows


def _unit(largest_bytes: int) -> str:
    return next((unit for unit, size in UNITS.items() if largest_bytes >= size), "KiB")


def _table(rows: list[list[str]]) -> list[str]:
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[i]) for row in full) for i in range(len(rows[0]))]
    widths[0] = MARGIN - 2
    lines = []
    for row in rows:
        if len(row) == len(widths):
            right = [f"{text:>{width}}" for text, width in zip(row[1:], widths[1:], strict=True)]
        else:
            right = row[1:]
        lines.append("  ".join([f"{row[0]:{widths[0]}}", *right]).rstrip())
    return lines


def _rule_lines(plan: PlacementPlan, inventory: ModelInventory) -> list[str]:
    lines = []
    effects = rule_effects(inventory, plan.rules)
    for index, (rule, effect) in enumerate(zip(plan.rules, effects, strict=True)):
        blocks = "" if rule.layers is None else f" [blk.{rule.layers[0]}-{rule.layers[1]}]"
        target = f" -> {rule.device}" if rule.role else ""
        text = f"{index + 1}  {rule.source}{blocks}{target}   "
        if effect.is_dead:
            text += "DEAD: matches nothing"
        elif effect.is_shadowed:
            text += f"SHADOWED: all {effect.matched_tensors} tensors taken by earlier rules"
        else:
            plural = "" if effect.taken_tensors == 1 else "s"
            text += f"{effect.taken_tensors} tensor{plural}, {format_bytes(effect.taken_bytes)}"
            earlier = effect.matched_tensors - effect.taken_tensors
            text += f" ({earlier} taken by earlier rules)" if earlier else ""
        lines.append(text)
    return lines


def _layer_lines(plan: PlacementPlan, inventory: ModelInventory) -> list[str]:
    """Blocks with the same placement in one line, then the tensors outside blocks."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    by_layer: dict[int, dict[str, list[str]]] = {}
    outside = []
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        if part.device == UNLOADED:
            continue
        if tensor.layer is None:
            outside.append(f"{part.tensor.removesuffix('.weight')} -> {part.device}")
            continue
        target = part.device
        if part.experts is not None:
            experts = number_ranges(range(part.experts[0], part.experts[1] + 1))
            kind = "expert" if part.experts[0] == part.experts[1] else "experts"
            target = f"{part.device} ({kind} {experts})"
        group = PARTS.get(tensor.role, GROUP_OF[tensor.role])
        targets = by_layer.setdefault(tensor.layer, {}).setdefault(group, [])
        if target not in targets:
            targets.append(target)
    alike: dict[str, list[int]] = {}
    for layer, placed in sorted(by_layer.items()):
        alike.setdefault(_sentence(placed), []).append(layer)
    lines = [
        f"blk.{number_ranges(layers).replace(', ', ',')}  {what}" for what, layers in alike.items()
    ]
    return [*lines, "; ".join(outside)]


def _sentence(placed: dict[str, list[str]]) -> str:
    """E.g. "attention, dense -> CUDA0; routed -> CPU": groups with the same targets joined."""
    joined: dict[str, list[str]] = {}
    for group in LINE_ORDER:
        if group in placed and placed[group] != placed.get(WHOLE_OF.get(group, "")):
            joined.setdefault(" and ".join(placed[group]), []).append(group)
    return "; ".join(f"{', '.join(names)} -> {target}" for target, names in joined.items())


def tensor_report(plan: PlacementPlan) -> str:
    """Every assignment in file order: tensor or experts of it, device, bytes, reason."""
    rows = [
        (
            a.tensor if a.experts is None else f"{a.tensor}#{a.experts[0]}-{a.experts[1]}",
            a.device,
            format_bytes(a.nbytes),
            a.reason,
        )
        for a in plan.assignments
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "".join(
        f"{name:{widths[0]}}  {device:{widths[1]}}  {nbytes:>{widths[2]}}  {reason}\n"
        for name, device, nbytes, reason in rows
    )
