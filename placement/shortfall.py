"""A draft that does not fit -> DoesNotFit whose remedies were tried: each was drafted again and
fits.

One change at a time, the smallest of its kind: context, micro-batch, cache format, its place, -ngl,
--n-cpu-moe, a rule dropped, a budget raised, experts moved to a device with room. Where no single
change is enough, context, micro-batch and cache format together; then the bytes short.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from placement.draft import draft
from placement.errors import DoesNotFit
from placement.inventory import Role
from placement.machine import CPU, Device, DeviceKind
from placement.plan import DeviceUse, PlacementPlan
from placement.request import Request
from placement.rules import N_CPU_MOE, Rule, fallbacks_last, n_cpu_moe_rules
from placement.units import flag_bytes, format_bytes
from placement.workload import Workload

CONTEXT_STEP = 256
SMALLEST_UBATCH = 16
MAX_REMEDIES = 5
MIB = 1 << 20


def overfull(plan: PlacementPlan) -> list[DeviceUse]:
    """Devices whose planned bytes exceed their budget."""
    return [use for use in plan.devices if use.total_bytes > use.budget_bytes]


def shortfall(request: Request, attempt: PlacementPlan) -> DoesNotFit:
    """The error for a draft with at least one overfull device."""
    over = overfull(attempt)
    remedies = list(islice(_remedies(request, attempt), MAX_REMEDIES))
    if not remedies:
        remedies = [*_all_at_once(request), *(_bytes_short(request, use) for use in over)]
    names = " and ".join(use.name for use in over)
    return DoesNotFit(f"the model does not fit on {names}", *map(_needs, over), remedy=remedies)


def _needs(use: DeviceUse) -> str:
    return (
        f"{use.name} needs {format_bytes(use.total_bytes)}"
        f" (weights {format_bytes(use.weights_bytes)}, cache {format_bytes(use.cache_bytes)},"
        f" compute {format_bytes(use.compute_bytes)}), budget {format_bytes(use.budget_bytes)}"
    )


def _remedies(request: Request, attempt: PlacementPlan) -> Iterator[str]:
    yield from _smaller_workload(request)
    yield from _fewer_on_gpus(request)
    yield from _without_a_rule(request, attempt)
    yield from _larger_budget(request, attempt)
    yield from _experts_to_gpu(request, attempt)


def _smaller_workload(request: Request) -> Iterator[str]:
    workload = request.workload
    context = _largest_context(request, workload)
    if context:
        smaller = replace(workload, context_tokens=context)
        yield f"-c {context}{_saved(request, smaller)}"
    ubatch = _largest_ubatch(request)
    if ubatch:
        yield f"-ub {ubatch}{_saved(request, replace(workload, ubatch_tokens=ubatch))}"
    if workload.cache_format != "q8_0":
        packed = replace(workload, cache_format="q8_0")
        if _fits(request.with_workload(packed)):
            yield f"-ctk q8_0{_saved(request, packed)}"
    elsewhere = replace(workload, cache_in_ram=not workload.cache_in_ram)
    if _fits(request.with_workload(elsewhere)):
        flag = "-nkvo" if elsewhere.cache_in_ram else "-kvo"
        yield f"{flag}{_saved(request, elsewhere)}"


def _fewer_on_gpus(request: Request) -> Iterator[str]:
    layers = request.inventory.shape.layers
    if request.gpu_layers:
        most = min(request.gpu_layers, layers + 1)
        fewer = _first_fit(most, lambda step: replace(request, gpu_layers=max(most - step, 0)))
        if fewer:
            yield f"-ngl {most - fewer} in place of -ngl {request.gpu_layers}"
    old = [rule for rule in request.rules if rule.source.startswith(N_CPU_MOE)]
    bound = [rule.layers[0] for rule in old if rule.is_fallback and rule.layers]
    # --n-cpu-moe 0 leaves no rule whose place another number could take
    if bound and not all(rule.is_fallback for rule in old):
        more = _first_fit(layers - bound[0], lambda step: _with_n_cpu_moe(request, bound[0] + step))
        if more:
            yield f"--n-cpu-moe {bound[0] + more} in place of {bound[0]}"


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


def _without_a_rule(request: Request, attempt: PlacementPlan) -> Iterator[str]:
    over = {use.name for use in overfull(attempt)}
    for index, rule in enumerate(request.rules):
        if rule.source.startswith(N_CPU_MOE):
            continue  # another number is the better advice
        there = [p for p in attempt.assignments if p.rule == index and p.device in over]
        rules = request.rules[:index] + request.rules[index + 1 :]
        if there and _fits(request.with_rules(rules)):
            nbytes = format_bytes(sum(part.nbytes for part in there))
            devices = " and ".join(sorted({part.device for part in there}))
            yield f"drop rule {index + 1} ({rule.source}), which puts {nbytes} on {devices}"


def _larger_budget(request: Request, attempt: PlacementPlan) -> Iterator[str]:
    budgets = dict(request.budgets)
    for use in overfull(attempt):
        budgets[use.name] = -(-use.total_bytes // MIB) * MIB
    raised = [_device(request, use) for use in overfull(attempt)]
    beyond = [d for d in raised if budgets[d.name] > d.free_bytes]
    if any(d.kind is not DeviceKind.SIMULATED_GPU for d in beyond):
        return
    if _fits(replace(request, budgets=budgets)):
        yield " ".join(_budget_flags(request, budgets, raised, beyond))


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


def _experts_to_gpu(request: Request, attempt: PlacementPlan) -> Iterator[str]:
    """For a host that is too small: whole layers' experts, the last first, to the GPU with most
    room.
    """
    gpus = [use for use in attempt.devices if use.name != CPU]
    if not gpus or {use.name for use in overfull(attempt)} != {CPU}:
        return
    roomy = max(gpus, key=lambda use: use.budget_bytes - use.total_bytes)
    experts = {t.name: t.layer for t in request.inventory.tensors if t.role is Role.ROUTED_EXPERT}
    here = {
        experts[p.tensor] for p in attempt.assignments if p.tensor in experts and p.device == CPU
    }
    layers = sorted((layer for layer in here if layer is not None), reverse=True)

    def moved(step: int) -> Request:
        numbers = "|".join(str(layer) for layer in sorted(layers[:step]))
        text = rf"blk\.({numbers})\..*_exps={roomy.name}"
        rule = Rule(text.rpartition("=")[0], roomy.name, text, role=Role.ROUTED_EXPERT)
        return request.with_rules((rule, *request.rules))

    step = _first_fit(len(layers), moved, lambda request: not _overfull_host(request))
    if step and _fits(moved(step)):
        room = format_bytes(roomy.budget_bytes - roomy.total_bytes)
        yield f"-ot '{moved(step).rules[0].source}' first ({roomy.name} has {room} left)"


def _all_at_once(request: Request) -> Iterator[str]:
    small = replace(
        request.workload,
        ubatch_tokens=min(request.workload.ubatch_tokens, SMALLEST_UBATCH),
        cache_format="q8_0",
    )
    context = _largest_context(request, small)
    if context:
        yield f"-c {context} -ub {small.ubatch_tokens} -ctk q8_0 together"


def _bytes_short(request: Request, use: DeviceUse) -> str:
    short = format_bytes(use.total_bytes - use.budget_bytes)
    device = _device(request, use)
    if use.name == CPU and use.budget_bytes >= device.free_bytes:
        needed = f"{-(-use.total_bytes >> 30) + 1}GiB"
        return (
            f"a file quantised smaller, or {short} more free RAM;"
            f" --ram {needed} plans for a machine that has it, --mmap runs from the file"
        )
    return f"{short} more on {use.name} ({_flag(device, use)}), or rules that put less there"


def _flag(device: Device, use: DeviceUse) -> str:
    if not device.is_gpu:
        return "--ram"
    whole = device.kind is DeviceKind.SIMULATED_GPU and use.budget_bytes >= device.total_bytes
    return "--simulate" if whole else "--vram"


def _largest_context(request: Request, workload: Workload) -> int:
    """Tokens, a multiple of 256 below the context asked for; 0 when none fits."""
    steps = (workload.context_tokens - 1) // CONTEXT_STEP
    less = _first_fit(
        steps,
        lambda step: request.with_workload(
            replace(workload, context_tokens=(steps + 1 - step) * CONTEXT_STEP)
        ),
    )
    return (steps + 1 - less) * CONTEXT_STEP if less else 0


def _largest_ubatch(request: Request) -> int:
    ubatch = 1 << max(request.workload.ubatch_tokens - 1, 0).bit_length()
    while ubatch > SMALLEST_UBATCH:
        ubatch //= 2
        if _fits(request.with_workload(replace(request.workload, ubatch_tokens=ubatch))):
            return ubatch
    return 0


def _first_fit(
    steps: int, changed: Callable[[int], Request], fits: Callable[[Request], bool] | None = None
) -> int:
    """The smallest step 1..steps whose changed request fits; more steps need less; 0 if none."""
    fits = fits or _fits
    if steps < 1 or not fits(changed(steps)):
        return 0
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        if fits(changed(middle)):
            high = middle
        else:
            low = middle
    return high


def _fits(request: Request) -> bool:
    return not overfull(draft(request))


def _overfull_host(request: Request) -> bool:
    return any(use.name == CPU for use in overfull(draft(request)))


def _saved(request: Request, workload: Workload) -> str:
    then = draft(request.with_workload(workload))
    fullest = max(then.devices, key=lambda use: use.total_bytes / max(use.budget_bytes, 1))
    budget = format_bytes(fullest.budget_bytes)
    return f" ({fullest.name} then needs {format_bytes(fullest.total_bytes)} of {budget})"


def _device(request: Request, use: DeviceUse) -> Device:
    return next(device for device in request.machine.devices if device.name == use.name)
