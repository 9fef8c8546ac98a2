"""GPUs left empty by what was asked for: rules that keep experts in RAM, shares for other GPUs."""

from collections.abc import Sequence

from placement.cost.predict import predict
from placement.errors import RuleError
from placement.inventory import Role
from placement.machines.machine import CPU, Machine
from placement.plan import PlacementPlan
from placement.request import Request
from placement.rules import N_CPU_MOE
from placement.solve.draft import draft
from placement.solve.trials import overfull
from placement.tensor_names import device_ranges
from placement.units import format_bytes, rate

MUCH_FREE = 0.25  # of all GPUs' budgets
WORTH = 1.2  # times as fast without the rules


def idle_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Much VRAM free that experts could fill which rules keep in RAM, were they dropped."""
    gpus = [use for use in plan.devices if use.name != CPU]
    free = sum(use.budget_bytes - use.total_bytes for use in gpus)
    rules = _rules_for_ram(request, plan)
    if not rules or free <= MUCH_FREE * sum(use.budget_bytes for use in gpus):
        return []
    others = [rule for index, rule in enumerate(request.rules) if index not in rules]
    try:
        without = draft(request.with_rules(others))
    except RuleError:  # of a rule that got nothing before
        return []
    if overfull(without):
        return []
    now, then = (_decode_rate(request, which) for which in (plan, without))
    if then < WORTH * now:
        return []
    named: dict[str, int] = {}  # --n-cpu-moe once
    for index in rules:
        named.setdefault(request.rules[index].source, index)
    words = " and ".join(f"rule {index + 1} ({source})" for source, index in named.items())
    speeds = f": about {rate(then)} tok/s in place of {rate(now)}"
    if plan.played_gpus or without.played_gpus:
        speeds = ""
    return [f"{format_bytes(free)} of VRAM stay free; without {words} experts fill it{speeds}"]


def share_notes(shares: Sequence[float] | None, machine: Machine) -> list[str]:
    """-ts written for another number of GPUs."""
    gpus = [gpu.name for gpu in machine.gpus]
    if shares is None or len(shares) == len(gpus):
        return []
    if not gpus:
        return [f"-ts {','.join(f'{part:g}' for part in shares)} has no effect: no GPU"]
    parts = "1 part" if len(shares) == 1 else f"{len(shares)} parts"
    here = "one GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    if len(shares) < len(gpus):
        empty = device_ranges(gpus[len(shares) :])
        return [f"-ts has {parts} and there are {here}: {empty} get no blocks"]
    if len(gpus) < 2:
        what = "it has no effect"
    elif not sum(shares[: len(gpus)]):
        what = f"the first {len(gpus)} are 0, so it has no effect"
    else:
        what = f"the first {len(gpus)} count"
    return [f"-ts has {parts} and there {'is' if len(gpus) < 2 else 'are'} {here}: {what}"]


def _rules_for_ram(request: Request, plan: PlacementPlan) -> list[int]:
    """Numbers from 0 of rules that put routed experts of blocks on GPUs into RAM, --n-cpu-moe
    whole.
    """
    experts = {t.name: t.layer for t in request.inventory.tensors if t.role is Role.ROUTED_EXPERT}
    found = {
        part.rule
        for part in plan.assignments
        if part.rule is not None
        and part.device == CPU
        and part.tensor in experts
        and plan.layers[experts[part.tensor] or 0] != CPU
    }
    counted = [n for n, rule in enumerate(request.rules) if rule.source.startswith(N_CPU_MOE)]
    return sorted(found | set(counted)) if found else []


def _decode_rate(request: Request, plan: PlacementPlan) -> float:
    paces = predict(plan, request.inventory, request.machine, request.expert_stats).decode
    return paces[0].tokens_per_s
