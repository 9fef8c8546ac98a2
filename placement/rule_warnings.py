r"""Rules that do what they say and not what was meant, each with what to type instead.

blk\.1.*exps=CUDA0    finds blk.10 to blk.19 too
ffn_.*=CPU            takes routers, shared experts and norms along with the experts
exps=CPU,blk\.3\..*   the first one leaves nothing to the second
ffn_up_exps=CUDA0     where the model's tensors are called ffn_gate_up_exps
"""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from placement.claims import RuleEffect, claims_of, rule_effects
from placement.errors import RuleError
from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machines.machine import CPU
from placement.name_hints import block_hint, word_hint
from placement.patterns import SlowSearch, check_pattern, found
from placement.plan import PlacementPlan
from placement.rules import N_CPU_MOE, Rule
from placement.tensor_names import family, layers_text, name_ranges, number_ranges
from placement.units import format_bytes

ROLE_NOUNS = {
    Role.ATTENTION: "attention",
    Role.ROUTER: "router",
    Role.SHARED_EXPERT: "shared expert",
    Role.NORM: "norm",
    Role.DENSE_FFN: "dense feed-forward",
}

# where one of these is elsewhere than the others, the note on split experts says it
USUAL_EXPERTS = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}

_DIGIT = r"(?:\d|\\d|\[[0-9-]+\])"
_GROUP = rf"\((?:\?:)?{_DIGIT}+(?:\|{_DIGIT}+)*\)"
_REPEAT = r"(?:[+*?]|\{[0-9,]+\})?"
_NUMBER = rf"(?:(?:{_DIGIT}|{_GROUP}){_REPEAT})+"
# the number of a block, wherever a pattern writes one
_BLOCK_NUMBER = re.compile(rf"blk(\\?\.|\[\.\])({_NUMBER})(\.(?![*+?{{])|\\\.)?")


def rule_warnings(inventory: ModelInventory, plan: PlacementPlan) -> list[str]:
    """One line per trap that a rule of the plan fell into, in the order of the rules."""
    taken = _taken(inventory, plan.rules)
    effects = rule_effects(inventory, plan.rules)
    warnings = []
    dragging: set[int] = set()
    for index, (rule, effect) in enumerate(zip(plan.rules, effects, strict=True)):
        subject = f"rule {index + 1} ({rule.source})"
        if effect.is_dead:
            warnings.append(f"{subject} matches no tensor{nearest(rule, inventory)}")
        elif effect.is_shadowed and not rule.is_fallback:
            warnings.append(f"{subject} {_shadowed(index, effect, inventory, plan.rules)}")
        if text := _open_ended(rule, taken[index]):
            warnings.append(f"{subject} {text}")
        if text := _dragged(rule, taken[index], plan):
            warnings.append(f"{subject} {text}")
            dragging.add(index)
        if text := _left_out(rule, index, taken[index], inventory, plan):
            warnings.append(f"{subject} {text}")
    return [*warnings, *_routers_away(inventory, plan, dragging)]


def nearest(rule: Rule, inventory: ModelInventory) -> str:
    """A hint for a dead rule: why it matches nothing, or the nearest tensor name."""
    if not rule.pattern:
        return "; this model has no routed experts there"
    if "#" in rule.pattern:
        return "; a range of experts is written #0-63, at the pattern's end"
    unloaded = [tensor for tensor in inventory.tensors if not tensor.role.is_loaded]
    if any(rule.matches(tensor) for tensor in unloaded):
        return " that is loaded"
    names = [tensor.name for tensor in inventory.tensors]
    if any(rule.pattern.lower() in name.lower() for name in names):
        return "; tensor names are written in small letters"
    plain = re.sub(r"\\[dw][*+]?|[\\^$()*+?]", "", rule.pattern)
    parts = sorted({part for name in names for part in name.split(".")})
    known = names if "blk" in plain else parts
    experts = [t.name for t in inventory.tensors if t.role is Role.ROUTED_EXPERT]
    for_experts = bool(re.search("exps?$|experts", rule.pattern) and experts)
    # of a rule for experts, several names in one are more likely new ones than misspelt
    hint = block_hint(rule.pattern, inventory)
    if not (for_experts and "|" in plain):
        hint = hint or word_hint(rule.pattern, inventory)
    if hint:
        return hint
    cutoff = 0.5 if not for_experts else 0.85 if "|" not in plain else 1.0
    near = difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)
    if near:
        return f"; did you mean {near[0]}?"
    if not for_experts:
        return ""
    kinds = ", ".join(dict.fromkeys(family(name) for name in experts))
    own = "-cmoe knows them by role" if rule.device == CPU else f"-ot 'exps={rule.device}'"
    return f"; this model's routed experts are called {kinds}: {own}"


def _taken(inventory: ModelInventory, rules: Sequence[Rule]) -> list[list[TensorInfo]]:
    """Per rule, the tensors of which it got anything."""
    taken: list[list[TensorInfo]] = [[] for _ in rules]
    for tensor in inventory.tensors:
        if tensor.role.is_loaded:
            takers = {claim.rule for claim in claims_of(tensor, rules)}
            for index in takers - {None}:
                taken[index or 0].append(tensor)
    return taken


def _shadowed(
    index: int, effect: RuleEffect, inventory: ModelInventory, rules: Sequence[Rule]
) -> str:
    """Who took what the rule would have got, and the order in which it would get it."""
    count = effect.matched_tensors
    whose: Counter[int] = Counter()
    for tensor in inventory.tensors:
        if tensor.role.is_loaded and rules[index].matches(tensor):
            whose.update(claim.rule for claim in claims_of(tensor, rules) if claim.rule is not None)
    earlier = sorted(whose)
    names = " and ".join(f"{i + 1} ({rules[i].source})" for i in earlier)
    text = f"has no effect: rule{'s' if len(earlier) > 1 else ''} {names} took all {count}"
    text += f" tensor{'' if count == 1 else 's'} it matches"
    if rules[index].source.startswith(N_CPU_MOE) or rules[earlier[0]].role is not None:
        return f"{text}; put it first if it is to win"
    order = f"{rules[index].source},{rules[earlier[0]].source}"
    return f"{text}; if it is to win: -ot '{order}'; leave it if it is the catch-all"


def ended_rules(inventory: ModelInventory, rules: Sequence[Rule]) -> list[tuple[int, Rule, str]]:
    """(number from 0, the rule as it was meant, why) of rules whose block number goes on."""
    ended = []
    for index, (rule, taken) in enumerate(zip(rules, _taken(inventory, rules), strict=True)):
        written = _BLOCK_NUMBER.sub(r"blk\.\2\.", rule.pattern)
        why = _open_ended(rule, taken)
        if why and _found(written, taken):
            meant = replace(rule, pattern=written, source=_with(rule, written))
            ended.append((index, meant, why.split(":")[0]))
    return ended


def _open_ended(rule: Rule, taken: list[TensorInfo]) -> str:
    """For a block number that nothing ends: blk.1 is found in blk.10 too."""
    ended = _BLOCK_NUMBER.sub(r"blk\1\2(?!\\d)\3", rule.pattern)
    meant = taken if ended == rule.pattern else _found(ended, taken)
    if meant is None or len(meant) == len(taken):
        return ""
    extra = [tensor for tensor in taken if tensor not in meant]
    layers = layers_text(tensor.layer for tensor in extra if tensor.layer is not None)
    written = _BLOCK_NUMBER.sub(r"blk\.\2\.", rule.pattern)
    same = _found(written, taken) == meant
    advice = f"-ot '{_with(rule, written)}'" if same else r"end the number with \."
    only = number_ranges(tensor.layer for tensor in meant if tensor.layer is not None)
    sizes = f"{len(extra)} tensors, {format_bytes(sum(tensor.nbytes for tensor in extra))}"
    if not only:
        return f"means no tensor but finds {layers} ({sizes}): end its number with \\."
    return f"finds {layers} too ({sizes}): the number goes on; for {only} alone: {advice}"


def _dragged(rule: Rule, taken: list[TensorInfo], plan: PlacementPlan) -> str:
    """For a rule meant for experts that takes what belongs with the block to the CPU."""
    experts = [tensor for tensor in taken if tensor.role is Role.ROUTED_EXPERT]
    rest = [
        tensor
        for tensor in taken
        if tensor.role in ROLE_NOUNS
        and tensor.layer is not None
        and plan.layers[tensor.layer] != CPU
    ]
    if rule.device != CPU or not experts or not rest:
        return ""
    roles = Counter(tensor.role for tensor in rest)
    nbytes = format_bytes(sum(tensor.nbytes for tensor in rest))
    kinds = ", ".join(f"{roles[role]} {noun}" for role, noun in ROLE_NOUNS.items() if roles[role])
    instead = _with(rule, _experts_only(rule, taken, experts))
    return (
        f"takes more than experts to the CPU, from blocks that live on GPUs: {kinds} tensors"
        f" ({nbytes}); for the experts alone: -ot '{instead}'"
    )


def _experts_only(rule: Rule, taken: list[TensorInfo], experts: list[TensorInfo]) -> str:
    """The pattern with as few characters more as it takes to mean these experts alone."""
    behind = (f"{rule.pattern}_exps", f"{rule.pattern}.*_exps")
    for pattern in (*behind, f"(?=.*_exps){rule.pattern}"):
        if _found(pattern, taken) == experts:
            return pattern
    return "exps"


def _left_out(
    rule: Rule, index: int, taken: list[TensorInfo], inventory: ModelInventory, plan: PlacementPlan
) -> str:
    """For a rule that knows some names of a block's experts: the others, if they lie elsewhere."""
    mine = {tensor.name for tensor in taken if tensor.role is Role.ROUTED_EXPERT}
    layers = {tensor.layer for tensor in taken if tensor.name in mine}
    if not mine or rule.role is not None:
        return ""
    where: dict[str, set[str]] = {}
    for part in plan.assignments:
        where.setdefault(part.tensor, set()).add(part.device)
    there = {device for name in mine for device in where[name]}
    missed = [
        tensor.name
        for tensor in inventory.tensors
        if tensor.role is Role.ROUTED_EXPERT
        and tensor.layer in layers
        and tensor.name not in mine
        and not where[tensor.name] & there
        and all(claim.rule is None for claim in claims_of(tensor, plan.rules))
    ]
    if not missed or {family(name) for name in missed} <= USUAL_EXPERTS:
        return ""
    block = _BLOCK_NUMBER.search(rule.pattern)
    start = rf"blk\.{block[2]}\..*" if block else ""
    names = ", ".join(name_ranges(missed))
    return (
        f"leaves out {names}, experts of the same layers, which no rule takes; for all of them:"
        f" -ot '{start}_exps={rule.device}'"
    )


def _routers_away(inventory: ModelInventory, plan: PlacementPlan, dragging: set[int]) -> list[str]:
    """Routers in RAM of blocks on GPUs, but for those of rules that a line was said about."""
    routers = {t.name: t.layer for t in inventory.tensors if t.role is Role.ROUTER}
    layers: dict[int, set[int]] = {}
    for part in plan.assignments:
        layer = routers.get(part.tensor)
        if layer is None or part.device != CPU or plan.layers[layer] == CPU:
            continue
        if part.rule is not None and part.rule not in dragging:
            layers.setdefault(part.rule, set()).add(layer)
    return [
        f"rule {index + 1} ({plan.rules[index].source}) has the router of {layers_text(those)}"
        f" on the CPU while their blocks are on GPUs: each waits for it;"
        " -ot 'ffn_gate_inp|exp_probs_b=GPU' before it keeps routers at home"
        for index, those in layers.items()
    ]


def _with(rule: Rule, pattern: str) -> str:
    experts = "" if rule.experts is None else f"#{rule.experts[0]}-{rule.experts[1]}"
    return f"{pattern}{experts}={rule.device}"


def _found(pattern: str, tensors: list[TensorInfo]) -> list[TensorInfo] | None:
    """Those in whose names the pattern is; None for one that cannot be searched in good time."""
    try:
        check_pattern(pattern, "")
        return [tensor for tensor in tensors if found(pattern, tensor.name)]
    except (RuleError, SlowSearch):
        return None
