"""Which rule takes which experts of which tensor: first match wins, expert by expert.

A rule with a range takes only those experts; the rest falls to later rules, at last to the planner
(rule None). Tensors that are not loaded are never taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placement.errors import RuleError
from placement.inventory import ModelInventory, TensorInfo
from placement.patterns import quoted
from placement.rules import Rule


@dataclass(frozen=True, slots=True)
class Claim:
    """Experts first..last of one tensor for one rule. A tensor without experts is its expert 0."""

    first: int
    last: int
    rule: int | None


Claims = Mapping[str, tuple[Claim, ...]]


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """What one rule did: tensors it matched, tensors and bytes left for it by earlier rules."""

    matched_tensors: int
    taken_tensors: int
    taken_bytes: int

    @property
    def is_dead(self) -> bool:
        return self.matched_tensors == 0

    @property
    def is_shadowed(self) -> bool:
        return self.matched_tensors > 0 and self.taken_tensors == 0


def claims_of(tensor: TensorInfo, rules: Sequence[Rule]) -> tuple[Claim, ...]:
    """Claims that cover every expert of the tensor once, in order, neighbours of one rule merged.

    Raises RuleError for an expert range that the tensor does not have.
    """
    count = max(tensor.experts, 1)
    matching = []
    for index, rule in enumerate(rules):
        if rule.matches(tensor):
            _check_range(tensor, rule, index)
            matching.append(index)
            if rule.experts is None:
                break  # nothing is left for later rules, whatever they ask
    if not any(rules[index].experts for index in matching):
        return (Claim(0, count - 1, matching[0] if matching else None),)
    owner: list[int | None] = [None] * count
    for index in reversed(matching):  # the first match is written last
        first, last = rules[index].experts or (0, count - 1)
        owner[first : last + 1] = [index] * (last + 1 - first)
    starts = [i for i in range(count) if i == 0 or owner[i] != owner[i - 1]]
    ends = [*(start - 1 for start in starts[1:]), count - 1]
    return tuple(Claim(first, last, owner[first]) for first, last in zip(starts, ends, strict=True))


def loaded_claims(inventory: ModelInventory, rules: Sequence[Rule]) -> dict[str, tuple[Claim, ...]]:
    """The claims of every tensor that is loaded, by name."""
    return {t.name: claims_of(t, rules) for t in inventory.tensors if t.role.is_loaded}


def claimed_bytes(tensor: TensorInfo, claim: Claim) -> int:
    """Bytes of the claim's experts; claims that cover a tensor sum to its bytes exactly."""
    count = max(tensor.experts, 1)
    return tensor.nbytes * (claim.last + 1) // count - tensor.nbytes * claim.first // count


def rule_effects(inventory: ModelInventory, rules: Sequence[Rule]) -> tuple[RuleEffect, ...]:
    """One effect per rule, over the tensors that are loaded."""
    matched, taken, nbytes = ([0] * len(rules) for _ in range(3))
    for tensor in inventory.tensors:
        if not tensor.role.is_loaded:
            continue
        for index, rule in enumerate(rules):
            matched[index] += rule.matches(tensor)
        takers = set()
        for claim in claims_of(tensor, rules):
            if claim.rule is not None:
                takers.add(claim.rule)
                nbytes[claim.rule] += claimed_bytes(tensor, claim)
        for index in takers:
            taken[index] += 1
    return tuple(RuleEffect(*counts) for counts in zip(matched, taken, nbytes, strict=True))


def _check_range(tensor: TensorInfo, rule: Rule, index: int) -> None:
    if rule.experts is None:
        return
    first, last = rule.experts
    subject = f"rule {index + 1} ({quoted(rule.source)}) asks for experts {first}-{last}"
    if tensor.experts == 0:
        raise RuleError(
            f"{subject} of {tensor.name}, which has none",
            remedy="match expert tensors only, as in 'blk\\.3\\..*_exps#0-63=CUDA0'",
        )
    if rule.experts[1] >= tensor.experts:
        raise RuleError(
            f"{subject} of {tensor.name}, which has {tensor.experts}",
            remedy=f"experts are counted from 0 to {tensor.experts - 1}",
        )
