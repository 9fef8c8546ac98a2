"""A draft that does not fit -> DoesNotFit: what is too full, which wishes contradict each other,
and the smallest changes that fit (`remedies.py`), each with its bytes and its speed, the fastest
first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from placement.cost.predict import predict
from placement.errors import DoesNotFit
from placement.machines.machine import CPU, Device, DeviceKind
from placement.memory.file_map import without_map
from placement.plan import DeviceUse, PlacementPlan
from placement.prediction import Prediction
from placement.request import Request
from placement.rule_warnings import ended_rules
from placement.solve.draft import draft
from placement.solve.long_passes import with_long_passes
from placement.solve.remedies import all_at_once, single_changes
from placement.solve.trials import Remedy, Trials, overfull
from placement.tensor_names import device_ranges
from placement.units import format_bytes, rate
from placement.workload import Workload

MAX_REMEDIES = 6
MOST_TRIED = 10
ALIKE = 1.03  # times as fast: no reason to tell one first
MOST_NAMED = 3  # devices that are listed one by one

Predicted = tuple[Remedy, Prediction | None]


def shortfall(
    request: Request, attempt: PlacementPlan, longer_ubatch: int | None = None
) -> DoesNotFit:
    """The error for a draft with at least one overfull device.

    longer_ubatch   that a plan takes where it fits: remedies tell what they lead to with it
    """
    over, trials = overfull(attempt), Trials(request)
    found = list(islice(single_changes(request, attempt, trials), MOST_TRIED))
    if all(remedy.is_budget for remedy in found):
        found = [*all_at_once(request, trials), *found]
    load = request.workload
    planned = [_as_planned(remedy, load, longer_ubatch) for remedy in found]
    fastest = fastest_first([(remedy, _predicted(remedy)) for remedy in planned])[:MAX_REMEDIES]
    remedies = [_told(remedy, speeds, over) for remedy, speeds in fastest]
    over = [without_map(attempt, use) for use in over]
    if all(remedy.is_budget for remedy in found):
        remedies += [*_smaller_file(attempt, over), *_from_the_file(request, over, longer_ubatch)]
    if not any(remedy.text.startswith("-") for remedy in found):
        worst = sorted(over, key=lambda use: use.budget_bytes - use.total_bytes)
        *others, last = _few([_bytes_short(request, use) for use in worst])
        joint = "and " if others and not last.startswith("and ") else ""
        remedies.append("; ".join([*others, f"{joint}{last}"]))
    names = [use.name for use in over]
    there = device_ranges(names) if len(names) > MOST_NAMED else " and ".join(names)
    details = [*_few(list(map(_needs, over))), *_few(conflicts(request, attempt, trials))]
    return DoesNotFit(f"the model does not fit on {there}", *details, remedy=remedies)


def _few(lines: list[str]) -> list[str]:
    """Not a screen of GPUs that are alike."""
    more = len(lines) - MOST_NAMED
    return [*lines[:MOST_NAMED], f"and {more} more like these"] if more > 1 else lines


def conflicts(request: Request, attempt: PlacementPlan, trials: Trials | None = None) -> list[str]:
    """Which wishes cannot both be met, with their bytes; one line for each."""
    found = []
    further = {index: why for index, _, why in ended_rules(request.inventory, request.rules)}
    over = overfull(attempt)
    for use in over:
        sizes = _bytes_by_rule(use.name, attempt)
        alone = [index for index, nbytes in sizes.items() if nbytes > use.budget_bytes]
        found += [
            f"conflict: rule {index + 1} ({request.rules[index].source}) puts"
            f" {format_bytes(sizes[index])} on {use.name}, whose budget is"
            f" {format_bytes(use.budget_bytes)}"
            f"{'; it ' + further[index] if index in further else ''}"
            for index in alone
        ]
    return found or _tried_conflicts(request, attempt, trials or Trials(request))


def fastest_first(remedies: Sequence[Predicted]) -> list[Predicted]:
    """By tokens per second while decoding; those that are alike, and those without a speed, as they
    come. What the user meant stands before all, what takes more of the machine behind.
    """
    ordered: list[Predicted] = []
    for one in remedies:
        place = len(ordered)
        while place and _goes_before(one, ordered[place - 1]):
            place -= 1
        ordered.insert(place, one)
    return ordered


def _tried_conflicts(request: Request, attempt: PlacementPlan, trials: Trials) -> list[str]:
    """Conflicts known by leaving one side out: then the rest fits."""
    over = [without_map(attempt, use) for use in overfull(attempt)]
    budgets = _budgets(over)
    needed = " and ".join(format_bytes(use.total_bytes) for use in over)
    plural = "s" if len(over) > 1 else ""
    for index, meant, why in ended_rules(request.inventory, request.rules):
        rules = (*request.rules[:index], meant, *request.rules[index + 1 :])
        if trials.fits(request.with_rules(rules)):
            return [f"conflict: rule {index + 1} ({request.rules[index].source}) {why}"]
    if trials.free_layers is not None:
        return [
            f"conflict: -ngl {request.gpu_layers_text} needs {needed}, the budget{plural} of"
            f" {budgets} less"
        ]
    sizes: dict[int, int] = {}
    for use in over:
        for index, nbytes in _bytes_by_rule(use.name, attempt).items():
            sizes[index] = sizes.get(index, 0) + nbytes
    others = [rule for index, rule in enumerate(request.rules) if index not in sizes]
    if sizes and trials.tried(request.with_rules(others)):
        numbers = ", ".join(str(index + 1) for index in sorted(sizes))
        what = f"rule{'s' if len(sizes) > 1 else ''} {numbers}"
        return [
            f"conflict: {what} put{'' if len(sizes) > 1 else 's'}"
            f" {format_bytes(sum(sizes.values()))} there, where the rest needs the budget{plural}"
            f" of {budgets}"
        ]
    if len(attempt.devices) > 1 and not request.rules and request.gpu_layers is None:
        return [_together(attempt, over)]
    return []


def _together(attempt: PlacementPlan, over: Sequence[DeviceUse]) -> str:
    """Nothing is asked for: the budgets are too small together, or what is free on some cannot hold
    what others lack.
    """
    uses = [without_map(attempt, use) for use in attempt.devices]
    together = sum(use.budget_bytes for use in uses)
    needs = sum(use.total_bytes for use in uses)
    if needs > together:
        return (
            f"conflict: the budgets of {_budgets(uses)} are {format_bytes(together)}"
            f" together; what fills the GPUs and what stays in RAM need {format_bytes(needs)}"
        )
    short = " and ".join(
        f"{use.name} is {format_bytes(use.total_bytes - use.budget_bytes)} short" for use in over
    )
    free = [use for use in uses if use not in over]
    left = format_bytes(sum(use.budget_bytes - use.total_bytes for use in free))
    return (
        f"conflict: {short}; what stays free of {_budgets(free)}, {left} in all, holds no more of"
        " the blocks and experts that belong there"
    )


def _budgets(uses: Sequence[DeviceUse]) -> str:
    """ "CPU (30.0 GiB) and 16 GPUs of 23.5 GiB": equal GPUs together."""
    words = [f"{use.name} ({format_bytes(use.budget_bytes)})" for use in uses if use.name == CPU]
    gpus = [use for use in uses if use.name != CPU]
    for size, count in Counter(format_bytes(use.budget_bytes) for use in gpus).items():
        name = next(use.name for use in gpus if format_bytes(use.budget_bytes) == size)
        words.append(f"{name} ({size})" if count == 1 else f"{count} GPUs of {size}")
    return " and ".join(words)


def _bytes_by_rule(device: str, attempt: PlacementPlan) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for part in attempt.assignments:
        if part.device == device and part.rule is not None:
            sizes[part.rule] = sizes.get(part.rule, 0) + part.nbytes
    return sizes


def _needs(use: DeviceUse) -> str:
    weights = f"weights {format_bytes(use.weights_bytes)}, " if use.weights_bytes else ""
    return (
        f"{use.name} needs {format_bytes(use.total_bytes)}"
        f" ({weights}cache {format_bytes(use.cache_bytes)},"
        f" compute {format_bytes(use.compute_bytes)}{_other(use)}),"
        f" budget {format_bytes(use.budget_bytes)}"
    )


def _other(use: DeviceUse) -> str:
    return f", other {format_bytes(use.other_bytes)}" if use.other_bytes else ""


def _as_planned(remedy: Remedy, load: Workload, longer_ubatch: int | None) -> Remedy:
    """As the plan will be: with the longer micro-batch, but where the remedy is a shorter one."""
    if remedy.request.workload.ubatch_tokens != load.ubatch_tokens:
        return remedy
    request, plan = with_long_passes(remedy.request, remedy.plan, longer_ubatch)
    return replace(remedy, request=request, plan=plan)


def _predicted(remedy: Remedy) -> Prediction | None:
    """None where the CPU plays GPUs."""
    if remedy.plan.played_gpus:
        return None
    request = remedy.request
    return predict(remedy.plan, request.inventory, request.machine, request.expert_stats)


def _goes_before(one: Predicted, other: Predicted) -> bool:
    (its, speed), (others, known) = one, other
    if its.rank != others.rank or speed is None or known is None:
        return its.rank < others.rank
    return speed.decode[0].tokens_per_s > ALIKE * known.decode[0].tokens_per_s


def _told(remedy: Remedy, speeds: Prediction | None, over: list[DeviceUse]) -> str:
    """With what it leads to: "-c 8192 (CUDA0 then needs 21.9 GiB of 23.5 GiB; about 12.4 tok/s,
    8.31 at the end; prompts 105)".
    """
    uses = {use.name: without_map(remedy.plan, use) for use in remedy.plan.devices}
    fullest = max(
        (uses[use.name] for use in over),
        key=lambda use: use.total_bytes / max(use.budget_bytes, 1),
    )
    needs = f"{format_bytes(fullest.total_bytes)} of {format_bytes(fullest.budget_bytes)}"
    then = f"; {_speeds(speeds)}" if speeds else ""
    return f"{remedy.text} ({fullest.name} then needs {needs}{then})"


def _speeds(found: Prediction) -> str:
    first, last = found.decode[0], found.decode[-1]
    end = f", {rate(last.tokens_per_s)} at the end" if last.depth > first.depth else ""
    return (
        f"about {rate(first.tokens_per_s)} tok/s{end}; prompts {rate(found.prompt[0].tokens_per_s)}"
    )


def _smaller_file(attempt: PlacementPlan, over: Sequence[DeviceUse]) -> list[str]:
    """Where RAM alone is too small, for weights of which it holds the most: what size of file would
    do.
    """
    if attempt.workload.mapped or [use.name for use in over] != [CPU]:
        return []
    [use] = over
    beside = use.total_bytes - use.weights_bytes
    if beside >= use.budget_bytes:
        return [f"a smaller model: this one takes {format_bytes(beside)} beside its weights"]
    weights = sum(each.weights_bytes for each in attempt.devices)
    if 2 * use.weights_bytes < weights:
        return []
    short = use.total_bytes - use.budget_bytes
    return [
        f"a file quantised smaller: about {format_bytes(weights - short)} of weights fit here,"
        f" these are {format_bytes(weights)}"
    ]


def _from_the_file(request: Request, over: list[DeviceUse], longer_ubatch: int | None) -> list[str]:
    """--mmap, where RAM is too small for weights; with what makes room on GPUs that lack it too."""
    if request.workload.mapped:
        return []
    mapped = request.with_workload(replace(request.workload, mapped=True))
    plan = draft(mapped)
    found = [Remedy("", mapped, plan)]
    if overfull(plan):
        changes = islice(single_changes(mapped, plan), MOST_TRIED)
        found = [remedy for remedy in changes if not remedy.is_budget]
    planned = [_as_planned(remedy, request.workload, longer_ubatch) for remedy in found]
    return [
        _told(replace(remedy, text=_mapped_text(remedy.text)), speeds, over)
        for remedy, speeds in fastest_first([(its, _predicted(its)) for its in planned])[:1]
    ]


def _mapped_text(change: str) -> str:
    runs = "runs from the file, what RAM lacks at the disc's speed"
    return f"--mmap and {change}: {runs}" if change else f"--mmap {runs}"


def _bytes_short(request: Request, use: DeviceUse) -> str:
    short = format_bytes(use.total_bytes - use.budget_bytes)
    device = next(device for device in request.machine.devices if device.name == use.name)
    if use.name != CPU:
        has = use.total_bytes <= device.total_bytes or device.kind is DeviceKind.SIMULATED_GPU
        flag = f" ({_flag(device, use)})" if has else ""
        return f"{short} more on {use.name}{flag}, or rules that put less there"
    needed = f"--ram {-(-use.total_bytes >> 30) + 1}GiB"
    if use.budget_bytes >= device.free_bytes:
        return f"{short} more free RAM; {needed} plans for a machine that has it"
    return f"{needed}: its budget is {short} short"


def _flag(device: Device, use: DeviceUse) -> str:
    whole = device.kind is DeviceKind.SIMULATED_GPU and use.budget_bytes >= device.total_bytes
    return "--simulate" if whole else "--vram"
