"""Budgets raised after which a request fits, as flags to be pasted."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from placement.machines.machine import CPU, Device, DeviceKind
from placement.memory.budgets import device_budgets
from placement.memory.file_map import mapped_bytes, without_map
from placement.plan import DeviceUse, PlacementPlan
from placement.request import Request
from placement.solve.draft import draft
from placement.solve.trials import Remedy, Trials, overfull
from placement.units import flag_bytes

MIB = 1 << 20
VRAM_STEP = 256 * MIB
MOST_RAISES = 4  # of a budget: a larger one changes what goes there


def larger_budget(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    """Up to what is free, less the margin of a GPU that is there; a simulated one may be larger."""
    most = device_budgets(request.machine, None)
    budgets, plan, over = dict(request.budgets), attempt, overfull(attempt)
    for _ in range(MOST_RAISES):
        for use in over:
            budgets[use.name] = -(-without_map(plan, use).total_bytes // MIB) * MIB
        raised = [d for d in request.machine.devices if budgets[d.name] > request.budgets[d.name]]
        beyond = [device for device in raised if budgets[device.name] > most[device.name]]
        if any(device.kind is not DeviceKind.SIMULATED_GPU for device in beyond):
            return
        changed = replace(request, budgets=budgets)
        if {use.name for use in over} == {CPU}:
            # the attempt is the way that needs least RAM, and this is just enough for it
            plan = replace(plan, devices=tuple(_raised(plan, use, budgets) for use in plan.devices))
        else:
            plan = draft(changed)
        over = overfull(plan)
        if not over:
            text = " ".join(_budget_flags(request, budgets, raised, beyond))
            yield Remedy(text, changed, plan, is_budget=True)
            return


def _raised(plan: PlacementPlan, use: DeviceUse, budgets: Mapping[str, int]) -> DeviceUse:
    mapped = mapped_bytes(plan.workload, use.name, use.weights_bytes)
    return replace(use, budget_bytes=budgets[use.name] + mapped)


def more_vram(request: Request, attempt: PlacementPlan, trials: Trials) -> Iterator[Remedy]:
    """For a host that is too small, beside GPUs that may hold less than is free on them."""
    most = device_budgets(request.machine, None)
    low = [gpu for gpu in request.machine.gpus if request.budgets[gpu.name] < most[gpu.name]]
    if not low or {use.name for use in overfull(attempt)} != {CPU}:
        return

    def raised(step: int) -> Request:
        more = {gpu.name: request.budgets[gpu.name] + step * VRAM_STEP for gpu in low}
        return replace(
            request,
            budgets={**request.budgets, **{n: min(size, most[n]) for n, size in more.items()}},
        )

    def text(step: int) -> str:
        budgets = raised(step).budgets
        left = max(gpu.free_bytes - budgets[gpu.name] for gpu in low)
        flag = f"--vram {_listed({gpu.name: budgets[gpu.name] for gpu in low})}"
        return f"{flag}, or --margin {flag_bytes(left)} where no --vram is given"

    widest = max(most[gpu.name] - request.budgets[gpu.name] for gpu in low)
    for remedy in trials.first_fit(-(-widest // VRAM_STEP), raised, text):
        yield replace(remedy, is_budget=True)


def _budget_flags(
    request: Request, budgets: Mapping[str, int], raised: list[Device], beyond: list[Device]
) -> Iterator[str]:
    """Flags that give the raised devices these budgets, on any command line with this request.

    beyond   simulated GPUs that are smaller than their new budget
    """
    if beyond:
        sizes = {gpu.name: gpu.total_bytes for gpu in request.machine.gpus}
        sizes |= {gpu.name: budgets[gpu.name] for gpu in beyond}
        yield "--simulate " + _listed(sizes)
    # a simulated GPU's budget is its size unless --vram made it smaller
    kept = [d for d in raised if d not in beyond or request.budgets[d.name] < d.total_bytes]
    if on_gpus := {d.name: budgets[d.name] for d in kept if d.is_gpu}:
        yield "--vram " + _listed(on_gpus)
    yield from (f"--ram {flag_bytes(budgets[d.name])}" for d in kept if not d.is_gpu)


def _listed(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{name}={flag_bytes(nbytes)}" for name, nbytes in sizes.items())
