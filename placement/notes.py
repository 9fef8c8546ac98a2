"""What a plan's reader should know beside the table: rules without effect, costly splits, a missing
GPU.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace

from placement.claims import loaded_claims, rule_effects
from placement.homes import least_of_a_gpu
from placement.inventory import ModelInventory
from placement.machine import CPU
from placement.plan import Assignment, PlacementPlan
from placement.reference_blocks import reference_blocks
from placement.request import Request
from placement.rules import Rule
from placement.units import format_bytes


def plan_notes(request: Request, plan: PlacementPlan) -> PlacementPlan:
    """The same plan with its notes filled in."""
    notes = [*_rule_notes(request.inventory, request.rules), *_split_notes(plan.assignments)]
    notes += _empty_gpu_notes(request, plan)
    notes += _reference_notes(request.inventory, plan)
    if not request.machine.gpus:
        ignored = "" if request.gpu_layers is None else f"; -ngl {request.gpu_layers} has no effect"
        notes.append(f"no GPU: everything on the CPU{ignored}")
    host = request.machine.host
    if request.budgets[host.name] > host.free_bytes:
        notes.append(
            f"the RAM budget of {format_bytes(request.budgets[host.name])} is taken as told;"
            f" {format_bytes(host.free_bytes)} are free here now"
        )
    return replace(plan, notes=tuple(notes))


def _empty_gpu_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Why a GPU holds nothing, where its size is the reason."""
    empty = [use for use in plan.devices if not use.total_bytes and use.name != CPU]
    if not empty:
        return []
    claims = loaded_claims(request.inventory, request.rules)
    scratch, with_block = least_of_a_gpu(request, claims)
    notes = []
    for use in empty:
        subject, needed = "one block's scratch needs", scratch
        if scratch <= use.budget_bytes:
            subject, needed = "the smallest block with its scratch needs", with_block
        if needed > use.budget_bytes:
            budget = format_bytes(use.budget_bytes)
            notes.append(
                f"{use.name} holds nothing: {subject} {format_bytes(needed)} of its {budget};"
                " smaller -ub and -amb need less"
            )
    return notes


def _reference_notes(inventory: ModelInventory, plan: PlacementPlan) -> list[str]:
    """Blocks that a GPU's own kernels do not take."""
    if plan.workload.kernels != "fast":
        return []
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    layers_of: dict[str, list[int]] = {}
    for layer, why in reference_blocks(plan.layers, plan.assignments, tensors).items():
        layers_of.setdefault(why, []).append(layer)
    return [
        f"layers {number_ranges(layers)} are computed by the reference kernels, ten times slower or"
        f" more: {why}"
        for why, layers in layers_of.items()
    ]


def number_ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers with runs joined: "0-2, 5, 7-9"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _rule_notes(inventory: ModelInventory, rules: tuple[Rule, ...]) -> list[str]:
    notes = []
    for index, (rule, effect) in enumerate(zip(rules, rule_effects(inventory, rules), strict=True)):
        if effect.is_dead:
            notes.append(
                f"rule {index + 1} ({rule.source}) matches no tensor{_near(rule, inventory)}"
            )
        elif effect.is_shadowed and not rule.is_fallback:
            notes.append(
                f"rule {index + 1} ({rule.source}) has no effect: earlier rules took all"
                f" {effect.matched_tensors} tensors it matches;"
                " put it first if it is to win, leave it if it is the catch-all"
            )
    return notes


def _near(rule: Rule, inventory: ModelInventory) -> str:
    """A hint for a dead rule: why it matches nothing, or the nearest tensor name."""
    if not rule.pattern:
        return "; this model has no routed experts there"
    if "#" in rule.pattern:
        return "; a range of experts is written #0-63, at the pattern's end"
    unloaded = [tensor for tensor in inventory.tensors if not tensor.role.is_loaded]
    if any(rule.matches(tensor) for tensor in unloaded):
        return " that is loaded"
    names = [tensor.name for tensor in inventory.tensors]
    if any(rule.pattern.lower() in name.lower() for name in names):
        return "; tensor names are written in small letters"
    plain = re.sub(r"\\[dw][*+]?|[\\^$()*+?]", "", rule.pattern)
    parts = sorted({part for name in names for part in name.split(".")})
    known = names if "blk" in plain else parts
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _split_notes(assignments: Iterable[Assignment]) -> list[str]:
    """Gate and up apart cost a crossing in the middle of every feed-forward."""
    where: dict[str, set[tuple[tuple[int, int] | None, str]]] = {}
    for part in assignments:
        if re.search(r"\.ffn_(gate|up|down)(_exps|_shexp)?\.weight$", part.tensor):
            where.setdefault(part.tensor, set()).add((part.experts, part.device))
    split: dict[str, list[int]] = {}
    for name, devices in where.items():
        found = re.fullmatch(r"blk\.(\d+)\.ffn_gate(_exps|_shexp)?\.weight", name)
        if found is None:
            continue
        kind = found[2] or ""
        rest = [f"blk.{found[1]}.ffn_{part}{kind}.weight" for part in ("up", "down")]
        if any(where.get(other, devices) != devices for other in rest):
            split.setdefault(f"ffn{kind}", []).append(int(found[1]))
    return [
        f"gate, up and down of {kind} are on different devices in layers {number_ranges(layers)}:"
        " each of their calls crosses between devices; move them together"
        for kind, layers in split.items()
    ]
