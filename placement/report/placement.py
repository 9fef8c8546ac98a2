"""What each rule did, where each layer lies and every tensor, as lines of text."""

from placement.claims import rule_effects
from placement.inventory import ModelInventory, Role
from placement.machines.machine import UNLOADED
from placement.plan import PlacementPlan
from placement.report.device_memory import GROUP_OF
from placement.rule_warnings import nearest
from placement.tensor_names import number_ranges
from placement.units import format_bytes

# in the lines of layers, parts of a group that are named only where they part from the rest of it
PARTS = {Role.NORM: "norms", Role.ROUTER: "router"}
WHOLE_OF = {"norms": "attention", "router": "shared"}
LINE_ORDER = ("attention", "norms", "dense", "shared", "router", "routed")


def rule_lines(plan: PlacementPlan, inventory: ModelInventory) -> list[str]:
    """One line per rule: tensors and bytes it took, or why none."""
    lines = []
    effects = rule_effects(inventory, plan.rules)
    for index, (rule, effect) in enumerate(zip(plan.rules, effects, strict=True)):
        blocks = "" if rule.layers is None else f" [blk.{rule.layers[0]}-{rule.layers[1]}]"
        target = f" -> {rule.device}" if rule.role else ""
        text = f"{index + 1}  {rule.source}{blocks}{target}   "
        if effect.is_dead:
            text += f"DEAD: matches nothing{nearest(rule, inventory)}"
        elif effect.is_shadowed:
            text += f"SHADOWED: all {effect.matched_tensors} tensors taken by earlier rules"
        else:
            plural = "" if effect.taken_tensors == 1 else "s"
            text += f"{effect.taken_tensors} tensor{plural}, {format_bytes(effect.taken_bytes)}"
            earlier = effect.matched_tensors - effect.taken_tensors
            text += f" ({earlier} taken by earlier rules)" if earlier else ""
        lines.append(text)
    return lines


def layer_lines(plan: PlacementPlan, inventory: ModelInventory) -> list[str]:
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


def _sentence(placed: dict[str, list[str]]) -> str:
    """E.g. "attention, dense -> CUDA0; routed -> CPU": groups with the same targets joined."""
    joined: dict[str, list[str]] = {}
    for group in LINE_ORDER:
        if group in placed and placed[group] != placed.get(WHOLE_OF.get(group, "")):
            joined.setdefault(" and ".join(placed[group]), []).append(group)
    return "; ".join(f"{', '.join(names)} -> {target}" for target, names in joined.items())
