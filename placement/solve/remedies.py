"""The smallest changes to a request after which it fits; each was drafted again and does fit.

One change at a time, the smallest of its kind: a rule that finds more blocks than it means,
context, micro-batch, cache format, its place, -ngl, --n-cpu-moe, ruled experts to the CPU, a rule
dropped, a budget raised, experts moved to a device with room. Where no single change is enough,
context, micro-batch and cache format together.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from placement.errors import RuleError
from placement.inventory import Role
from placement.machines.machine import CPU
from placement.plan import PlacementPlan
from placement.request import Request
from placement.rule_warnings import ended_rules
from placement.rules import N_CPU_MOE, Rule, fallbacks_last, n_cpu_moe_rules
from placement.solve.budget_remedies import larger_budget, more_vram
from placement.solve.draft import draft
from placement.solve.trials import CONTEXT_STEP, SMALLEST_UBATCH, Remedy, Trials, overfull
from placement.tensor_names import number_pattern
from placement.units import format_bytes
from placement.workload import Workload

USUAL_UBATCH = 512
USEFUL_CONTEXT = 4096


def single_changes(
    request: Request, attempt: PlacementPlan, trials: Trials | None = None
) -> Iterator[Remedy]:
    """Each of them makes the request fit that led to the overfull attempt."""
    trials = trials or Trials(request)
    yield from _ended_rule(request, trials)
    yield from _smaller_workload(request, trials)
    yield from _other_gpu_layers(request, attempt, trials)
    yield from _other_n_cpu_moe(request, trials)
    yield from _experts_to_cpu(request, attempt, trials)
    yield from _without_a_rule(request, attempt, trials)
    yield from larger_budget(request, attempt)
    yield from more_vram(request, attempt, trials)
    yield from _experts_to_gpu(request, attempt, trials)


def all_at_once(request: Request, trials: Trials | None = None) -> Iterator[Remedy]:
    """Context, micro-batch and, where those are not enough, cache format together: the largest
    micro-batch beside which a context of some use fits.
    """
    trials = trials or Trials(request)
    if not trials.of_size:
        return
    asked = request.workload
    small = replace(asked, ubatch_tokens=min(asked.ubatch_tokens, SMALLEST_UBATCH))
    usual = replace(asked, ubatch_tokens=min(asked.ubatch_tokens, USUAL_UBATCH))
    useful = min(USEFUL_CONTEXT, asked.context_tokens)
    for workload, least in (
        (usual, useful),
        (small, useful),
        (replace(small, cache_format="q8_0"), CONTEXT_STEP),
    ):
        least_of_all = request.with_workload(replace(workload, context_tokens=least))
        if not trials.fits(least_of_all):
            continue
        packed = " -ctk q8_0" if workload.cache_format != asked.cache_format else ""
        for found in _largest_context(request, workload, trials):
            tokens = found.request.workload.context_tokens
            text = f"-c {tokens} -ub {workload.ubatch_tokens}{packed} together"
            yield replace(found, text=text)
            return


def _ended_rule(request: Request, trials: Trials) -> Iterator[Remedy]:
    """blk.1 finds blk.10 too: the rule as it was meant."""
    for index, meant, why in ended_rules(request.inventory, request.rules):
        rules = (*request.rules[:index], meant, *request.rules[index + 1 :])
        text = f"write rule {index + 1} as -ot '{meant.source}': it {why}"
        for found in trials.one(text, request.with_rules(rules)):
            yield replace(found, is_meant=True)


def _smaller_workload(request: Request, trials: Trials) -> Iterator[Remedy]:
    workload = request.workload
    if not trials.of_size:
        return
    yield from _largest_context(request, workload, trials)
    yield from _largest_ubatch(request, trials)
    if workload.cache_format != "q8_0":
        packed = replace(workload, cache_format="q8_0")
        yield from trials.one("-ctk q8_0", request.with_workload(packed))
    elsewhere = replace(workload, cache_in_ram=not workload.cache_in_ram)
    flag = "-nkvo" if elsewhere.cache_in_ram else "-kvo"
    yield from trials.one(flag, request.with_workload(elsewhere))


def _other_gpu_layers(request: Request, attempt: PlacementPlan, trials: Trials) -> Iterator[Remedy]:
    """Fewer blocks on GPUs, or more of them where RAM is short."""
    layers, asked = request.inventory.shape.layers, request.gpu_layers
    if asked is None:
        return
    over = {use.name for use in overfull(attempt)}
    if over == {CPU} and request.machine.gpus:
        yield from trials.first_fit(
            layers + 1 - asked,
            lambda step: replace(request, gpu_layers=asked + step),
            lambda step: f"-ngl {asked + step} in place of -ngl {request.gpu_layers_text}",
            lambda plan: all(use.name != CPU for use in overfull(plan)),
        )
        if trials.free_layers is not None:
            text = f"-ngl auto in place of -ngl {request.gpu_layers_text}"
            yield Remedy(text, request.with_gpu_layers(None), trials.free_layers)
    elif asked:
        most = min(asked, layers + 1)
        yield from trials.first_fit(
            most,
            lambda step: replace(request, gpu_layers=max(most - step, 0)),
            lambda step: f"-ngl {most - step} in place of -ngl {request.gpu_layers_text}",
        )


def _other_n_cpu_moe(request: Request, trials: Trials) -> Iterator[Remedy]:
    old = [rule for rule in request.rules if rule.source.startswith(N_CPU_MOE)]
    bound = [rule.layers[0] for rule in old if rule.is_fallback and rule.layers]
    # --n-cpu-moe 0 has no rule whose place another number could take
    if not bound:
        return
    others = [rule for rule in request.rules if rule not in old]
    with suppress(RuleError):  # of a rule that got nothing before
        yield from trials.one(f"drop --n-cpu-moe {bound[0]}", request.with_rules(others))
    if all(rule.is_fallback for rule in old):
        return
    search = partial(
        trials.first_fit,
        request.inventory.shape.layers - bound[0],
        lambda step: _with_n_cpu_moe(request, bound[0] + step),
        lambda step: f"--n-cpu-moe {bound[0] + step} in place of {bound[0]}",
    )
    least = list(search())
    yield from least
    # What fits at all may do so with whole blocks in RAM: then more experts there are faster.
    if any(CPU in remedy.plan.layers for remedy in least):
        for remedy in search(lambda plan: not overfull(plan) and CPU not in plan.layers):
            if CPU not in remedy.plan.layers:
                yield remedy


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


def _experts_to_cpu(request: Request, attempt: PlacementPlan, trials: Trials) -> Iterator[Remedy]:
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
    for found in trials.first_fit(
        len(layers),
        lambda step: _with_experts_on(request, layers[:step], CPU),
        lambda step: f"-ot '{_experts_on(layers[:step], CPU).source}' first",
    ):
        yield _as_n_cpu_moe(request, found) or found


def _as_n_cpu_moe(request: Request, found: Remedy) -> Remedy | None:
    """The shorter flag for the first rule of `found`, where it leads to the very same plan."""
    if any(rule.source.startswith(N_CPU_MOE) for rule in request.rules):
        return None
    n = 1 + max(_expert_layers(found.request, found.plan, lambda rule, _: rule == 0))
    shorter = n_cpu_moe_rules(n, request.inventory.shape.layers, has_gpu=True)
    changed = request.with_rules(fallbacks_last((*shorter, *request.rules)))
    plan = draft(changed)
    if _homes(plan) != _homes(found.plan):
        return None
    return replace(found, text=f"-ncmoe {n} first", request=changed, plan=plan)


def _homes(plan: PlacementPlan) -> set[tuple[str, tuple[int, int] | None, str]]:
    return {(part.tensor, part.experts, part.device) for part in plan.assignments}


def _experts_to_gpu(request: Request, attempt: PlacementPlan, trials: Trials) -> Iterator[Remedy]:
    """For a host that is too small: whole layers' experts, the last first, to the GPU with most
    room. Without rules all that have room are there already.
    """
    gpus = [use for use in attempt.devices if use.name != CPU]
    free = not request.rules and request.shares is None
    if free or not gpus or {use.name for use in overfull(attempt)} != {CPU}:
        return
    roomy = max(gpus, key=lambda use: use.budget_bytes - use.total_bytes)
    here = _expert_layers(request, attempt, lambda rule, device: device == CPU)
    layers = sorted(here, reverse=True)
    yield from trials.first_fit(
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
    pattern = rf"blk\.{number_pattern(layers)}\..*_exps"
    return Rule(pattern, device, f"{pattern}={device}")


def _with_experts_on(request: Request, layers: list[int], device: str) -> Request:
    return request.with_rules((_experts_on(layers, device), *request.rules))


def _without_a_rule(request: Request, attempt: PlacementPlan, trials: Trials) -> Iterator[Remedy]:
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
            with suppress(RuleError):  # of a rule that got nothing before
                yield from trials.one(text, request.with_rules(rules))


def _largest_context(request: Request, workload: Workload, trials: Trials) -> Iterator[Remedy]:
    """A multiple of 256 tokens below the context asked for, no more than the model learnt."""
    trained = request.inventory.shape.trained_context_tokens
    steps = (min(workload.context_tokens, trained + CONTEXT_STEP) - 1) // CONTEXT_STEP

    def shorter(step: int) -> Request:
        tokens = (steps + 1 - step) * CONTEXT_STEP
        return request.with_workload(replace(workload, context_tokens=tokens))

    def text(step: int) -> str:
        tokens = shorter(step).workload.context_tokens
        is_all = tokens <= trained < min(tokens + CONTEXT_STEP, workload.context_tokens)
        return f"-c {tokens} (all that the model was trained for)" if is_all else f"-c {tokens}"

    yield from trials.first_fit(steps, shorter, text)


def _largest_ubatch(request: Request, trials: Trials) -> Iterator[Remedy]:
    lowest = min(request.workload.ubatch_tokens, SMALLEST_UBATCH)
    least = replace(request.workload, ubatch_tokens=lowest)
    if not trials.fits(request.with_workload(least)):
        return
    ubatch = 1 << max(request.workload.ubatch_tokens - 1, 0).bit_length()
    while ubatch > SMALLEST_UBATCH:
        ubatch //= 2
        smaller = replace(request.workload, ubatch_tokens=ubatch)
        found = list(trials.one(f"-ub {ubatch}", request.with_workload(smaller)))
        if found:
            yield from found
            return
