"""One attempt at a plan, not yet held against the budgets.

    request -> claims of rules -> homes of layers -> assignments -> bytes per device

`planner.plan()` checks a draft; `shortfall.py` makes more to find the smallest change that fits.
"""

from collections import Counter
from collections.abc import Iterator

from placement.claims import Claim, claimed_bytes
from placement.inventory import Role, TensorInfo
from placement.machines.machine import CPU, UNLOADED, DeviceKind
from placement.memory.file_map import mapped_bytes
from placement.memory.joined_ranges import joined_ranges
from placement.memory.needs import device_needs
from placement.plan import Assignment, DeviceUse, PlacementPlan
from placement.request import Request
from placement.rules import OWN_GPU, Rule
from placement.solve.demand import sits_with_head
from placement.solve.homes import Homes, choose_homes

MOST_TRIES = 4
ROLE_NOUNS = {
    Role.NORM: "norm",
    Role.ATTENTION: "attention",
    Role.DENSE_FFN: "dense feed-forward",
    Role.ROUTER: "router",
    Role.SHARED_EXPERT: "shared experts",
}


def draft(request: Request, *, lean: bool = False) -> PlacementPlan:
    """The plan that this request leads to, whether it fits or not; ranges of experts as rules have
    them, its bytes those of the ranges joined.

    lean   the one that needs least RAM, be it slow: to know in less time whether one fits

    Raises RuleError for a rule that cannot be obeyed.
    """
    spare: Counter[str] = Counter()
    homes = choose_homes(request, lean=lean)
    attempt = _drafted(request, homes)
    for _ in range(MOST_TRIES if homes.fitting else 0):
        # Homes are chosen by bounds of what a device needs beside weights. Where one is too low,
        # what it lacks is kept free the next time.
        over = {use.name: use.total_bytes - use.budget_bytes for use in attempt.devices}
        over = {name: nbytes for name, nbytes in over.items() if nbytes > 0}
        if not over:
            break
        spare.update(over)
        attempt = _drafted(request, choose_homes(request, spare, lean=lean))
    return attempt


def _drafted(request: Request, homes: Homes) -> PlacementPlan:
    inventory = request.inventory
    assignments = tuple(
        assignment
        for tensor in inventory.tensors
        for assignment in _assign(tensor, request.claims.get(tensor.name), request.rules, homes)
    )
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    return PlacementPlan(
        model=inventory.name,
        architecture=inventory.architecture,
        model_bytes=inventory.nbytes,
        assignments=assignments,
        layers=homes.layers,
        devices=_device_uses(request, homes, joined_ranges(assignments, tensors)),
        rules=request.rules,
        workload=request.workload,
        notes=homes.notes,
    )


def _assign(
    tensor: TensorInfo, claims: tuple[Claim, ...] | None, rules: tuple[Rule, ...], homes: Homes
) -> list[Assignment]:
    if claims is None:
        mtp = tensor.role is Role.MTP
        reason = "next-token prediction is not loaded" if mtp else "not read by this model"
        return [Assignment(tensor.name, None, UNLOADED, tensor.nbytes, None, reason)]
    parts = []
    for claim, device, reason in _placed(tensor, claims, rules, homes):
        whole = claim.first == 0 and claim.last == max(tensor.experts, 1) - 1
        experts = None if whole else (claim.first, claim.last)
        nbytes = claimed_bytes(tensor, claim)
        parts.append(Assignment(tensor.name, experts, device, nbytes, claim.rule, reason))
    return parts


def _placed(
    tensor: TensorInfo, claims: tuple[Claim, ...], rules: tuple[Rule, ...], homes: Homes
) -> Iterator[tuple[Claim, str, str]]:
    """Each claim's device and why; a free range of experts cut where only some are at home."""
    for claim in claims:
        if claim.rule is not None:
            yield claim, *_by_rule(tensor, rules[claim.rule], claim.rule, homes)
        elif tensor.role is not Role.ROUTED_EXPERT:
            yield claim, *_by_default(tensor, homes)
        else:
            yield from _free_experts(tensor, claim, homes)


def _free_experts(
    tensor: TensorInfo, claim: Claim, homes: Homes
) -> Iterator[tuple[Claim, str, str]]:
    layer = tensor.layer or 0
    first, last = homes.experts.get(layer, (0, -1))
    here, why = homes.layers[layer], f"experts fill what is left of {homes.layers[layer]}"
    in_ram = "routed experts stay in RAM"
    if last < first:
        yield claim, CPU, in_ram
        return
    if claim.first < first:
        yield Claim(claim.first, first - 1, None), CPU, in_ram
    yield Claim(first, last, None), here, why
    if last < claim.last:
        yield Claim(last + 1, claim.last, None), CPU, in_ram


def _by_default(tensor: TensorInfo, homes: Homes) -> tuple[str, str]:
    if sits_with_head(tensor, homes.tied_head):
        noun = {Role.NORM: "output norm", Role.EMBEDDING: "tied embedding, also the head"}
        return homes.head, f"{noun.get(tensor.role, 'head')}, {homes.head_reason}"
    if tensor.layer is None:
        return CPU, "stays in RAM: one row is read per token"
    why = homes.reasons[tensor.layer]
    return homes.layers[tensor.layer], f"{ROLE_NOUNS[tensor.role]} of layer {tensor.layer}, {why}"


def _by_rule(tensor: TensorInfo, rule: Rule, index: int, homes: Homes) -> tuple[str, str]:
    reason = f"rule {index + 1}: {rule.source}"
    if rule.device != OWN_GPU:
        return rule.device, reason
    if tensor.layer is None:
        return homes.head, f"{reason} (the head is on {homes.head})"
    home = homes.layers[tensor.layer]
    return home, f"{reason} (layer {tensor.layer} lives on {home})"


def _device_uses(
    request: Request, homes: Homes, assignments: tuple[Assignment, ...]
) -> tuple[DeviceUse, ...]:
    machine = request.machine
    needs = device_needs(
        request.inventory,
        request.workload,
        homes.layers,
        assignments,
        machine.device_names,
        machine,
    )
    kinds = {device.name: device.kind for device in machine.devices}
    return tuple(
        DeviceUse(
            name,
            request.budgets[name] + mapped_bytes(request.workload, name, need.weights_bytes),
            need.weights_bytes,
            need.cache_bytes,
            need.compute_bytes,
            need.other_bytes,
            kinds[name] is DeviceKind.SIMULATED_GPU,
        )
        for name, need in needs.items()
    )
