"""The smallest changes to a request after which it fits; each was drafted again and does fit.

One change at a time, the smallest of its kind: context, micro-batch, cache format, its place, -ngl,
--n-cpu-moe, ruled experts to the CPU, a rule dropped, a budget raised, experts moved to a device
with room. Where no single change is enough, context, micro-batch and cache format together.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from placement.budgets import device_budgets
from placement.draft import draft
from placement.inventory import Role
from placement.machine import CPU, Device, DeviceKind
from placement.plan import DeviceUse, PlacementPlan
from placement.request import Request
from placement.rules import N_CPU_MOE, Rule, fallbacks_last, n_cpu_moe_rules
from placement.units import flag_bytes, format_bytes
from placement.workload import Workload

CONTEXT_STEP = 256
SMALLEST_UBATCH = 16
MIB = 1 << 20
MOST_RAISES = 4  # of a budget: a larger one changes what goes there


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change.

    text      what to type, or to do
    request   with the change
    plan      what it leads to
    """

    text: str
    request: Request
    plan: PlacementPlan


def overfull(plan: PlacementPlan) -> list[DeviceUse]:
    """Devices whose planned bytes exceed their budget."""
    return [use for use in plan.devices if use.total_bytes > use.budget_bytes]


def tried(request: Request) -> PlacementPlan | None:
    """The plan of a request that fits."""
    attempt = draft(request)
    return None if overfull(attempt) else attempt


def single_changes(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    """Each of them makes the request fit that led to the overfull attempt."""
    yield from _smaller_workload(request)
    yield from _fewer_on_gpus(request)
    yield from _experts_to_cpu(request, attempt)
    yield from _without_a_rule(request, attempt)
    yield from _larger_budget(request, attempt)
    yield from _experts_to_gpu(request, attempt)


def all_at_once(request: Request) -> Iterator[Remedy]:
    """Context, micro-batch and cache format together."""
    small = replace(
        request.workload,
        ubatch_tokens=min(request.workload.ubatch_tokens, SMALLEST_UBATCH),
        cache_format="q8_0",
    )
    for found in _largest_context(request, small):
        yield replace(found, text=f"{found.text} -ub {small.ubatch_tokens} -ctk q8_0 together")


def _smaller_workload(request: Request) -> Iterator[Remedy]:
    workload = request.workload
    yield from _largest_context(request, workload)
    yield from _largest_ubatch(request)
    if workload.cache_format != "q8_0":
        packed = replace(workload, cache_format="q8_0")
        yield from _one("-ctk q8_0", request.with_workload(packed))
    elsewhere = replace(workload, cache_in_ram=not workload.cache_in_ram)
    flag = "-nkvo" if elsewhere.cache_in_ram else "-kvo"
    yield from _one(flag, request.with_workload(elsewhere))


def _one(text: str, changed: Request) -> Iterator[Remedy]:
    plan = tried(changed)
    if plan is not None:
        yield Remedy(text, changed, plan)


def _fewer_on_gpus(request: Request) -> Iterator[Remedy]:
    layers = request.inventory.shape.layers
    if request.gpu_layers:
        asked, most = request.gpu_layers, min(request.gpu_layers, layers + 1)
        yield from _first_fit(
            most,
            lambda step: replace(request, gpu_layers=max(most - step, 0)),
            lambda step: f"-ngl {most - step} in place of -ngl {asked}",
        )
    old = [rule for rule in request.rules if rule.source.startswith(N_CPU_MOE)]
    bound = [rule.layers[0] for rule in old if rule.is_fallback and rule.layers]
    # --n-cpu-moe 0 leaves no rule whose place another number could take
    if bound and not all(rule.is_fallback for rule in old):
        yield from _first_fit(
            layers - bound[0],
            lambda step: _with_n_cpu_moe(request, bound[0] + step),
            lambda step: f"--n-cpu-moe {bound[0] + step} in place of {bound[0]}",
        )


def _with_n_cpu_moe(request: Request, n: int) -> Request:
    rules: list[Rule] = []
    new: tuple[Rule, ...] = n_cpu_moe_rules(n, request.inventory.shape.layers, has_gpu=True)
    for rule in request.rules:
        if not rule.source.startswith(N_CPU_MOE):
            rules.append(rule)
        else:
            rules.extend(new)
            new = ()
    return request.with_rules(fallbacks_last(rules))


def _experts_to_cpu(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    """For GPUs that rules give too many experts: whole layers' experts, the first first, to RAM."""
    over = {use.name for use in overfull(attempt)} - {CPU}
    layers = sorted(
        _expert_layers(
            request,
            attempt,
            lambda rule, device: (
                device in over and rule is not None and not request.rules[rule].is_fallback
            ),
        )
    )
    yield from _first_fit(
        len(layers),
        lambda step: _with_experts_on(request, layers[:step], CPU),
        lambda step: f"-ot '{_experts_on(layers[:step], CPU).source}' first",
    )


def _experts_to_gpu(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    """For a host that is too small: whole layers' experts, the last first, to the GPU with most
    room.
    """
    gpus = [use for use in attempt.devices if use.name != CPU]
    if not gpus or {use.name for use in overfull(attempt)} != {CPU}:
        return
    roomy = max(gpus, key=lambda use: use.budget_bytes - use.total_bytes)
    here = _expert_layers(request, attempt, lambda rule, device: device == CPU)
    layers = sorted(here, reverse=True)
    yield from _first_fit(
        len(layers),
        lambda step: _with_experts_on(request, layers[:step], roomy.name),
        lambda step: f"-ot '{_experts_on(layers[:step], roomy.name).source}' first",
        lambda plan: all(use.name != CPU for use in overfull(plan)),
    )


def _expert_layers(
    request: Request, attempt: PlacementPlan, where: Callable[[int | None, str], bool]
) -> set[int]:
    """Blocks of which some routed experts are placed so."""
    layers = {t.name: t.layer for t in request.inventory.tensors if t.role is Role.ROUTED_EXPERT}
    return {
        layers[part.tensor] or 0
        for part in attempt.assignments
        if part.tensor in layers and where(part.rule, part.device)
    }


def _experts_on(layers: list[int], device: str) -> Rule:
    numbers = "|".join(str(layer) for layer in sorted(layers))
    pattern = rf"blk\.({numbers})\..*_exps"
    return Rule(pattern, device, f"{pattern}={device}")


def _with_experts_on(request: Request, layers: list[int], device: str) -> Request:
    return request.with_rules((_experts_on(layers, device), *request.rules))


def _without_a_rule(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    over = {use.name for use in overfull(attempt)}
    for index, rule in enumerate(request.rules):
        if rule.source.startswith(N_CPU_MOE):
            continue  # another number is the better advice
        there = [p for p in attempt.assignments if p.rule == index and p.device in over]
        if there:
            rules = request.rules[:index] + request.rules[index + 1 :]
            nbytes = format_bytes(sum(part.nbytes for part in there))
            devices = " and ".join(sorted({part.device for part in there}))
            text = f"drop rule {index + 1} ({rule.source}), which puts {nbytes} on {devices}"
            yield from _one(text, request.with_rules(rules))


def _larger_budget(request: Request, attempt: PlacementPlan) -> Iterator[Remedy]:
    """Up to what is free, less the margin of a GPU that is there; a simulated one may be larger."""
    most = device_budgets(request.machine, None)
    budgets, over = dict(request.budgets), overfull(attempt)
    for _ in range(MOST_RAISES):
        for use in over:
            budgets[use.name] = -(-use.total_bytes // MIB) * MIB
        raised = [d for d in request.machine.devices if budgets[d.name] > request.budgets[d.name]]
        beyond = [device for device in raised if budgets[device.name] > most[device.name]]
        if any(device.kind is not DeviceKind.SIMULATED_GPU for device in beyond):
            return
        changed = replace(request, budgets=budgets)
        plan = draft(changed)
        over = overfull(plan)
        if not over:
            yield Remedy(" ".join(_budget_flags(request, budgets, raised, beyond)), changed, plan)
            return


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


def _largest_context(request: Request, workload: Workload) -> Iterator[Remedy]:
    """A multiple of 256 tokens below the context asked for."""
    steps = (workload.context_tokens - 1) // CONTEXT_STEP

    def shorter(step: int) -> Request:
        tokens = (steps + 1 - step) * CONTEXT_STEP
        return request.with_workload(replace(workload, context_tokens=tokens))

    yield from _first_fit(
        steps, shorter, lambda step: f"-c {shorter(step).workload.context_tokens}"
    )


def _largest_ubatch(request: Request) -> Iterator[Remedy]:
    ubatch = 1 << max(request.workload.ubatch_tokens - 1, 0).bit_length()
    while ubatch > SMALLEST_UBATCH:
        ubatch //= 2
        smaller = replace(request.workload, ubatch_tokens=ubatch)
        found = list(_one(f"-ub {ubatch}", request.with_workload(smaller)))
        if found:
            yield from found
            return


def _first_fit(
    steps: int,
    changed: Callable[[int], Request],
    text: Callable[[int], str],
    fits: Callable[[PlacementPlan], bool] | None = None,
) -> Iterator[Remedy]:
    """The smallest step 1..steps whose changed request fits; more steps need less.

    fits   enough for going on with fewer steps; in the end all devices must have room
    """
    enough = fits or (lambda plan: not overfull(plan))
    plans: dict[int, PlacementPlan] = {}

    def holds(step: int) -> bool:
        plans[step] = draft(changed(step))
        return enough(plans[step])

    if steps < 1 or not holds(steps):
        return
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    if not overfull(plans[high]):
        yield Remedy(text(high), changed(high), plans[high])
