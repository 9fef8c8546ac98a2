"""A draft that does not fit -> DoesNotFit: what is too full, which wishes contradict each other,
and the smallest changes that fit (`remedies.py`), each with its bytes and its speed.
"""

from itertools import islice

from placement.cost import predict
from placement.errors import DoesNotFit
from placement.machine import CPU, Device, DeviceKind
from placement.plan import DeviceUse, PlacementPlan
from placement.remedies import Remedy, all_at_once, overfull, single_changes, tried
from placement.request import Request
from placement.units import format_bytes

MAX_REMEDIES = 6


def shortfall(request: Request, attempt: PlacementPlan) -> DoesNotFit:
    """The error for a draft with at least one overfull device."""
    over = overfull(attempt)
    found = list(islice(single_changes(request, attempt), MAX_REMEDIES))
    found = found or list(all_at_once(request))
    remedies = [_told(remedy, over) for remedy in found]
    if not found or not any(remedy.text.startswith("-") for remedy in found):
        remedies += [_bytes_short(request, use) for use in over]
    names = " and ".join(use.name for use in over)
    details = [*map(_needs, over), *conflicts(request, attempt)]
    return DoesNotFit(f"the model does not fit on {names}", *details, remedy=remedies)


def conflicts(request: Request, attempt: PlacementPlan) -> list[str]:
    """Which wishes cannot both be met, with their bytes; one line for each."""
    found = []
    over = overfull(attempt)
    for use in over:
        sizes = _bytes_by_rule(use.name, attempt)
        alone = [index for index, nbytes in sizes.items() if nbytes > use.budget_bytes]
        found += [
            f"conflict: rule {index + 1} ({request.rules[index].source}) puts"
            f" {format_bytes(sizes[index])} on {use.name}, whose budget is"
            f" {format_bytes(use.budget_bytes)}"
            for index in alone
        ]
    return found or _tried_conflicts(request, attempt)


def _tried_conflicts(request: Request, attempt: PlacementPlan) -> list[str]:
    """Conflicts known by leaving one side out: then the rest fits."""
    over = overfull(attempt)
    budgets = " and ".join(f"{use.name} ({format_bytes(use.budget_bytes)})" for use in over)
    needed = " and ".join(format_bytes(use.total_bytes) for use in over)
    plural = "s" if len(over) > 1 else ""
    if request.gpu_layers is not None and tried(request.with_gpu_layers(None)):
        return [
            f"conflict: -ngl {request.gpu_layers} needs {needed}, the budget{plural} of {budgets}"
            " less"
        ]
    sizes: dict[int, int] = {}
    for use in over:
        for index, nbytes in _bytes_by_rule(use.name, attempt).items():
            sizes[index] = sizes.get(index, 0) + nbytes
    others = [rule for index, rule in enumerate(request.rules) if index not in sizes]
    if sizes and tried(request.with_rules(others)):
        numbers = ", ".join(str(index + 1) for index in sorted(sizes))
        what = f"rule{'s' if len(sizes) > 1 else ''} {numbers}"
        return [
            f"conflict: {what} put{'' if len(sizes) > 1 else 's'}"
            f" {format_bytes(sum(sizes.values()))} there, the budget{plural} of {budgets} need it"
            " for the rest"
        ]
    if len(attempt.devices) > 1 and not request.rules and request.gpu_layers is None:
        together = sum(use.budget_bytes for use in attempt.devices)
        needs = sum(use.total_bytes for use in attempt.devices)
        every = " and ".join(
            f"{use.name} ({format_bytes(use.budget_bytes)})" for use in attempt.devices
        )
        return [
            f"conflict: the budgets of {every} are {format_bytes(together)} together; what fills"
            f" the GPUs and what stays in RAM need {format_bytes(needs)}"
        ]
    return []


def _bytes_by_rule(device: str, attempt: PlacementPlan) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for part in attempt.assignments:
        if part.device == device and part.rule is not None:
            sizes[part.rule] = sizes.get(part.rule, 0) + part.nbytes
    return sizes


def _needs(use: DeviceUse) -> str:
    return (
        f"{use.name} needs {format_bytes(use.total_bytes)}"
        f" (weights {format_bytes(use.weights_bytes)}, cache {format_bytes(use.cache_bytes)},"
        f" compute {format_bytes(use.compute_bytes)}{_other(use)}),"
        f" budget {format_bytes(use.budget_bytes)}"
    )


def _other(use: DeviceUse) -> str:
    return f", other {format_bytes(use.other_bytes)}" if use.other_bytes else ""


def _told(remedy: Remedy, over: list[DeviceUse]) -> str:
    """With what it leads to: "-c 8192 (CUDA0 then needs 21.9 GiB of 23.5 GiB; 12.4 tok/s)"."""
    uses = {use.name: use for use in remedy.plan.devices}
    fullest = max(
        (uses[use.name] for use in over),
        key=lambda use: use.total_bytes / max(use.budget_bytes, 1),
    )
    request = remedy.request
    speed = predict(remedy.plan, request.inventory, request.machine).decode[0].tokens_per_s
    return (
        f"{remedy.text} ({fullest.name} then needs {format_bytes(fullest.total_bytes)} of"
        f" {format_bytes(fullest.budget_bytes)}; about {speed:.3g} tok/s)"
    )


def _bytes_short(request: Request, use: DeviceUse) -> str:
    short = format_bytes(use.total_bytes - use.budget_bytes)
    device = next(device for device in request.machine.devices if device.name == use.name)
    if use.name == CPU and use.budget_bytes >= device.free_bytes:
        needed = f"{-(-use.total_bytes >> 30) + 1}GiB"
        return (
            f"a file quantised smaller, or {short} more free RAM;"
            f" --ram {needed} plans for a machine that has it, --mmap runs from the file,"
            " what RAM lacks at the disc's speed"
        )
    return f"{short} more on {use.name} ({_flag(device, use)}), or rules that put less there"


def _flag(device: Device, use: DeviceUse) -> str:
    if not device.is_gpu:
        return "--ram"
    whole = device.kind is DeviceKind.SIMULATED_GPU and use.budget_bytes >= device.total_bytes
    return "--simulate" if whole else "--vram"
