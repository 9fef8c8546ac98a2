"""What to type where rules make a plan slow, be it that the reference computes blocks or that
experts leave no room for them: rules dropped, whole blocks moved. Each way was drafted, fits and is
faster; the fastest comes first.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from placement.cost.predict import predict
from placement.errors import RuleError
from placement.inventory import Role
from placement.machines.machine import CPU
from placement.plan import Assignment, PlacementPlan
from placement.request import Request, played
from placement.rules import N_CPU_MOE, OWN_GPU, Rule
from placement.solve.draft import draft
from placement.solve.trials import overfull
from placement.tensor_names import layers_text, number_pattern
from placement.units import format_bytes, rate

MOST_TRIED = 5  # drafts of one note: each takes the solver's time
MOST_TOLD = 3
WORTH = 1.03  # times as fast
MUCH = 1.2  # likewise, where nothing is amiss


@dataclass(frozen=True, slots=True)
class _Way:
    """One change of the rules.

    several   it drops more than one of them
    """

    text: str
    rules: tuple[Rule, ...]
    several: bool = False


def ways_out(request: Request, plan: PlacementPlan, layers: Collection[int]) -> str:
    """ "; faster: without rule 1 (exps=CUDA0), about 20.6 tok/s in place of 11.5"; nothing where no
    way is. No speeds where the CPU plays GPUs.

    layers   that the reference computes in this plan
    """
    tensors = {tensor.name: tensor.layer for tensor in request.inventory.tensors}
    ruled = [
        part
        for part in plan.assignments
        if part.rule is not None and tensors[part.tensor] in layers
    ]
    return _told(request, plan, _ways(request, ruled, tensors), WORTH)


def crowded_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Blocks on the CPU that had room on the GPUs but for experts that rules put there."""
    on_cpu = [layer for layer, home in enumerate(plan.layers) if home == CPU]
    if request.gpu_layers is not None or not on_cpu:
        return []
    experts = {t.name for t in request.inventory.tensors if t.role is Role.ROUTED_EXPERT}
    ruled = [
        part
        for part in plan.assignments
        if part.rule is not None and part.device != CPU and part.tensor in experts
    ]
    ways = _told(request, plan, _fewer_rules(request, ruled), MUCH) if ruled else ""
    if not ways:
        return []
    nbytes = format_bytes(sum(part.nbytes for part in ruled))
    return [f"{layers_text(on_cpu)} stay on the CPU beside {nbytes} of experts on the GPUs{ways}"]


def _told(request: Request, plan: PlacementPlan, ways: Iterator[_Way], worth: float) -> str:
    now = _decode_rate(request, plan)
    found: list[tuple[float, str]] = []
    for way in islice(ways, MOST_TRIED):
        then = _tried(request, way)
        one_will_do = way.several and any(then <= WORTH * other for other, _ in found)
        if then > worth * now and not one_will_do:
            found.append((then, way.text))
    found = sorted(found, key=lambda way: -way[0])[:MOST_TOLD]
    if plan.played_gpus:
        words = [text for _, text in found]
    else:
        words = [f"{text}, about {rate(then)}" for then, text in found]
        words[:1] = [f"{first} tok/s in place of {rate(now)}" for first in words[:1]]
    return f"; faster: {'; '.join(words)}" if words else ""


def _ways(
    request: Request, ruled: list[Assignment], layers: dict[str, int | None]
) -> Iterator[_Way]:
    """Whole blocks on the GPU that rules gave most of them, then without the rules that have any of
    it: each alone, all of them.
    """
    if moved := _whole_blocks(ruled, layers):
        blocks = {layers[part.tensor] for part in ruled if part.device not in (CPU, OWN_GPU)}
        whole = "block" if len(blocks) == 1 else "blocks"
        flags = " ".join(f"-ot '{rule.source}'" for rule in moved)
        yield _Way(f"{flags} first moves the whole {whole}", (*moved, *request.rules))
    yield from _dropping(request, ruled)


def _fewer_rules(request: Request, ruled: list[Assignment]) -> Iterator[_Way]:
    """Without --n-cpu-moe, whose rules are many, or others."""
    counted = [rule for rule in request.rules if rule.source.startswith(N_CPU_MOE)]
    if counted and any(request.rules[part.rule or 0] in counted for part in ruled):
        others = tuple(rule for rule in request.rules if rule not in counted)
        yield _Way(f"without {counted[0].source}", others)
    yield from _dropping(request, ruled)


def _dropping(request: Request, ruled: list[Assignment]) -> Iterator[_Way]:
    numbers = sorted({part.rule for part in ruled if part.rule is not None})
    # --n-cpu-moe is many rules; what it says of blocks on GPUs is what their kernels take
    numbers = [n for n in numbers if not request.rules[n].source.startswith(N_CPU_MOE)]
    together = [tuple(numbers)] if 1 < len(numbers) <= MOST_TOLD else []
    for dropped in (*((number,) for number in numbers), *together):
        names = " and ".join(f"rule {n + 1} ({request.rules[n].source})" for n in dropped)
        kept = (rule for n, rule in enumerate(request.rules) if n not in dropped)
        yield _Way(f"without {names}", tuple(kept), several=len(dropped) > 1)


def _whole_blocks(ruled: list[Assignment], layers: dict[str, int | None]) -> list[Rule]:
    """One rule for each GPU."""
    nbytes: dict[int, Counter[str]] = {}
    for part in ruled:
        layer = layers[part.tensor]
        if layer is not None and part.device not in (CPU, OWN_GPU):
            nbytes.setdefault(layer, Counter())[part.device] += part.nbytes
    blocks: dict[str, list[int]] = {}
    for layer, sizes in sorted(nbytes.items()):
        blocks.setdefault(max(sorted(sizes), key=sizes.__getitem__), []).append(layer)
    if len(blocks) > MOST_TOLD:
        return []
    patterns = {gpu: rf"blk\.{number_pattern(numbers)}\." for gpu, numbers in blocks.items()}
    return [Rule(pattern, gpu, f"{pattern}={gpu}") for gpu, pattern in patterns.items()]


def _tried(request: Request, way: _Way) -> float:
    """Tokens per second; 0 where it cannot be."""
    try:
        plan = draft(request.with_rules(way.rules))
    except RuleError:  # of a rule that got nothing before
        return 0.0
    return 0.0 if overfull(plan) else _decode_rate(request, plan)


def _decode_rate(request: Request, plan: PlacementPlan) -> float:
    machine = played(request.machine)
    return predict(plan, request.inventory, machine, request.expert_stats).decode[0].tokens_per_s
