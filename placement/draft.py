"""One attempt at a plan, not yet held against the budgets.

    request -> claims of rules -> homes of layers -> assignments -> bytes per device

`planner.plan()` checks a draft; `shortfall.py` makes more to find the smallest change that fits.
"""

from placement.claims import Claim, claimed_bytes, loaded_claims
from placement.homes import Homes, choose_homes, sits_with_head
from placement.inventory import Role, TensorInfo
from placement.machine import CPU, UNLOADED
from placement.needs import device_needs
from placement.plan import Assignment, DeviceUse, PlacementPlan
from placement.request import Request
from placement.rules import OWN_GPU, Rule

ROLE_NOUNS = {
    Role.NORM: "norm",
    Role.ATTENTION: "attention",
    Role.DENSE_FFN: "dense feed-forward",
    Role.ROUTER: "router",
    Role.SHARED_EXPERT: "shared experts",
}


def draft(request: Request) -> PlacementPlan:
    """The plan that this request leads to, whether it fits or not.

    Raises RuleError for a rule that cannot be obeyed.
    """
    inventory = request.inventory
    claims = loaded_claims(inventory, request.rules)
    homes = choose_homes(request, claims)
    assignments = tuple(
        assignment
        for tensor in inventory.tensors
        for assignment in _assign(tensor, claims.get(tensor.name), request.rules, homes)
    )
    return PlacementPlan(
        model=inventory.name,
        architecture=inventory.architecture,
        model_bytes=inventory.nbytes,
        assignments=assignments,
        layers=homes.layers,
        devices=_device_uses(request, homes, assignments),
        rules=request.rules,
        workload=request.workload,
    )


def _assign(
    tensor: TensorInfo, claims: tuple[Claim, ...] | None, rules: tuple[Rule, ...], homes: Homes
) -> list[Assignment]:
    if claims is None:
        mtp = tensor.role is Role.MTP
        reason = "next-token prediction is not loaded" if mtp else "not read by this model"
        return [Assignment(tensor.name, None, UNLOADED, tensor.nbytes, None, reason)]
    parts = []
    for claim in claims:
        if claim.rule is None:
            device, reason = _by_default(tensor, homes)
        else:
            device, reason = _by_rule(tensor, rules[claim.rule], claim.rule, homes)
        experts = (claim.first, claim.last) if len(claims) > 1 else None
        nbytes = claimed_bytes(tensor, claim)
        parts.append(Assignment(tensor.name, experts, device, nbytes, claim.rule, reason))
    return parts


def _by_default(tensor: TensorInfo, homes: Homes) -> tuple[str, str]:
    if tensor.role is Role.ROUTED_EXPERT:
        return CPU, "routed experts stay in RAM"
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
    return tuple(
        DeviceUse(
            name,
            request.budgets[name],
            need.weights_bytes,
            need.cache_bytes,
            need.compute_bytes,
            need.other_bytes,
        )
        for name, need in needs.items()
    )
