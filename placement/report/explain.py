"""Why a tensor is where it is, which rules it escaped, and what it would cost elsewhere.

Tensors of one role with one reason are told, and moved, together:
"blk.3-9.ffn_{gate,up,down}_exps".
"""

import re
import textwrap
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from placement.claims import claims_of
from placement.errors import RequestError, RuleError
from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machines.machine import CPU, UNLOADED
from placement.memory.joined_ranges import joined_ranges
from placement.memory.reference_blocks import reference_blocks, scattered_blocks
from placement.patterns import SlowSearch, check_pattern, found, quoted
from placement.plan import Assignment, PlacementPlan
from placement.prediction import Prediction
from placement.report.speed import milliseconds
from placement.tensor_names import name_ranges, number_pattern
from placement.units import format_bytes, rate

Predict = Callable[[PlacementPlan], Prediction]
LEAST_S = 1e-7  # of a token that is worth a figure
MARGIN = 11  # columns of the left headings
MOST_TIMED = 100  # predictions: groups times devices


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The tensors of a group on another device, all else as planned.

    left_bytes    of the device's budget with all of them there; negative: that much too little
    fitting       how many of them have room there
    instead       a rule that moves what belongs with them, where the reference kernels would else
                  compute their blocks; None where a device's own kernels take these
    instead_bytes  of the device's budget left with all that it moves; negative: too little
    decode_s      seconds that a token at depth 0 would take longer; None where nobody predicts, or
                  the reference kernels compute
    tokens_per_s  then
    """

    device: str
    left_bytes: int
    fitting: int
    instead: str | None = None
    instead_bytes: int = 0
    decode_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Tensors, or the same experts of them, that are on one device for one reason.

    rule      index, None when the planner chose
    later     indices of rules that match too and come too late
    """

    names: tuple[str, ...]
    experts: tuple[int, int] | None
    formats: tuple[str, ...]
    role: str
    nbytes: int
    device: str
    reason: str
    rule: int | None
    later: tuple[int, ...]
    elsewhere: tuple[Elsewhere, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every group is held against.

    fallen   layers that fall back to the reference kernels as planned
    now      the prediction of the plan as it is
    """

    plan: PlacementPlan
    tensors: Mapping[str, TensorInfo]
    predict: Predict | None
    now: Prediction | None


def explain(
    plan: PlacementPlan,
    inventory: ModelInventory,
    pattern: str,
    predict: Predict | None = None,
) -> tuple[Explanation, ...]:
    """Every tensor whose name holds `pattern`, in file order.

    predict   speeds of a changed plan; not asked for more than MOST_TIMED of them
    Raises RequestError for a pattern that is none or matches nothing.
    """
    _check(pattern)
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    groups: dict[tuple[object, ...], list[Assignment]] = {}
    for part in plan.assignments:
        if _matches(pattern, part.tensor):
            tensor = tensors[part.tensor]
            later = _later(plan, tensor, part)
            key = (tensor.role, part.experts, part.device, _reason(part), later)
            groups.setdefault(key, []).append(part)
    if not groups:
        raise RequestError(
            f"--explain {quoted(pattern)}: no tensor's name holds it",
            remedy="hybrid plan MODEL --tensors lists all names",
        )
    timed = predict if len(groups) * len(plan.devices) <= MOST_TIMED else None
    asked = _Asked(plan, tensors, timed, timed(plan) if timed else None)
    return tuple(_explanation(asked, parts) for parts in groups.values())


def explanation_text(
    plan: PlacementPlan, explained: Sequence[Explanation], width: int = 100
) -> str:
    """A paragraph per group, wrapped; ends in a newline."""
    return "\n".join(_paragraph(plan, one, width) for one in explained)


def _check(pattern: str) -> None:
    try:
        check_pattern(pattern, f"--explain {quoted(pattern)}")
    except RuleError as error:
        raise RequestError(error.cause, *error.details, remedy=error.remedies) from None


def _matches(pattern: str, name: str) -> bool:
    try:
        return found(pattern, name)
    except SlowSearch:
        raise RequestError(
            f"--explain {quoted(pattern)} takes too long to search",
            remedy="take out the repetition of a repeated group, as in (a+)+",
        ) from None


def _reason(part: Assignment) -> str:
    """The same for all blocks."""
    return re.sub(r"\blayer \d+", "its layer", part.reason)


def _later(plan: PlacementPlan, tensor: TensorInfo, part: Assignment) -> tuple[int, ...]:
    """Rules that match the tensor, behind the one that has it, and have none of these experts."""
    if part.rule is None:
        return ()
    behind = range(part.rule + 1, len(plan.rules))
    first, last = part.experts or (0, max(tensor.experts, 1) - 1)
    claims = claims_of(tensor, plan.rules)
    have = {claim.rule for claim in claims if claim.first <= last and claim.last >= first}
    return tuple(
        index for index in behind if index not in have and plan.rules[index].matches(tensor)
    )


def _explanation(asked: _Asked, parts: list[Assignment]) -> Explanation:
    first, tensors = parts[0], asked.tensors
    unloaded = first.device == UNLOADED
    others = [] if unloaded else [d.name for d in asked.plan.devices if d.name != first.device]
    return Explanation(
        names=tuple(part.tensor for part in parts),
        experts=first.experts,
        formats=tuple(dict.fromkeys(tensors[part.tensor].format for part in parts)),
        role=tensors[first.tensor].role.value.replace("_", " "),
        nbytes=sum(part.nbytes for part in parts),
        device=first.device,
        reason=_reason(first),
        rule=first.rule,
        later=_later(asked.plan, tensors[first.tensor], first),
        elsewhere=tuple(_elsewhere(asked, parts, name) for name in others),
    )


def _elsewhere(asked: _Asked, parts: list[Assignment], name: str) -> Elsewhere:
    plan = asked.plan
    use = next(use for use in plan.devices if use.name == name)
    room = use.budget_bytes - use.total_bytes
    ends = list(accumulate(part.nbytes for part in parts))
    moved = _with_moved(plan, asked.tensors, parts, name)
    fallen = {}
    if plan.workload.kernels == "fast":  # the others are the reference's own
        placed = moved.layers, moved.assignments, asked.tensors
        fallen = reference_blocks(*placed) | scattered_blocks(*placed)
    blocks = {asked.tensors[part.tensor].layer for part in parts}
    instead = _instead(asked, parts, name) if blocks & fallen.keys() else None
    slower = rate_then = None
    if asked.predict is not None and asked.now is not None and instead is None:
        then = asked.predict(moved).decode[0]
        slower = sum(then.seconds.values()) - sum(asked.now.decode[0].seconds.values())
        rate_then = then.tokens_per_s
    return Elsewhere(
        device=name,
        left_bytes=room - ends[-1],
        fitting=bisect_right(ends, room),
        instead=instead,
        instead_bytes=room - _bytes_of(asked, instead, name) if instead else 0,
        decode_s=slower,
        tokens_per_s=rate_then,
    )


def _instead(asked: _Asked, parts: list[Assignment], name: str) -> str:
    """The rule that moves these tensors there so that their blocks stay as a GPU computes them."""
    layers = {asked.tensors[part.tensor].layer for part in parts}
    blocks = [layer for layer in layers if layer is not None]
    homes = {asked.plan.layers[layer] for layer in blocks}
    routed = asked.tensors[parts[0].tensor].role is Role.ROUTED_EXPERT
    whole = not routed or (name != CPU and homes != {name})
    names = "" if whole else r"ffn_.*_exps"
    return rf"blk\.{number_pattern(blocks)}\.{names}={name}"


def _bytes_of(asked: _Asked, instead: str, name: str) -> int:
    """Of weights that this rule brings to the device."""
    pattern = instead.removesuffix(f"={name}")
    return sum(
        part.nbytes
        for part in asked.plan.assignments
        if part.device not in (name, UNLOADED) and found(pattern, part.tensor)
    )


def _with_moved(
    plan: PlacementPlan, tensors: Mapping[str, TensorInfo], parts: list[Assignment], name: str
) -> PlacementPlan:
    """The plan with these parts on `name`; blocks, caches and scratch stay where they are."""
    chosen = set(parts)
    nbytes = sum(part.nbytes for part in parts)
    change = {parts[0].device: -nbytes, name: nbytes}
    moved = (replace(part, device=name) if part in chosen else part for part in plan.assignments)
    return replace(
        plan,
        assignments=joined_ranges(moved, tensors),
        devices=tuple(
            replace(use, weights_bytes=use.weights_bytes + change.get(use.name, 0))
            for use in plan.devices
        ),
    )


def _paragraph(plan: PlacementPlan, one: Explanation, width: int) -> str:
    count = len(one.names)
    experts = f"#{one.experts[0]}-{one.experts[1]}" if one.experts else ""
    names = ", ".join(f"{name}{experts}" for name in name_ranges(one.names))
    what = f"{'/'.join(one.formats)}, {one.role}"
    rows = [("tensors" if count > 1 else "tensor", names)]
    rows += [("bytes", f"{format_bytes(one.nbytes)} in {count} tensor{'s'[: count > 1]}, {what}")]
    rows += [("on", "no device: it stays in the file" if one.device == UNLOADED else one.device)]
    rows += [("because", one.reason)]
    rows += [("too late", f"rule {i + 1}: {plan.rules[i].source}") for i in one.later]
    for i, place in enumerate(one.elsewhere):
        rows.append(("elsewhere" if i == 0 else "", f"{place.device}: {_cost(one, place)}"))
    lines: list[str] = []
    for title, text in rows:
        lines += textwrap.wrap(
            text,
            max(width, 40),
            initial_indent=f"{title:{MARGIN}}",
            subsequent_indent=" " * (MARGIN + 2),
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines) + "\n"


def _cost(one: Explanation, place: Elsewhere) -> str:
    count = len(one.names)
    if place.left_bytes >= 0:
        text = f"fits, {format_bytes(place.left_bytes)} to spare"
    else:
        text = f"does not fit, {format_bytes(-place.left_bytes)} short"
        text += f"; {place.fitting} of the {count} would" if count > 1 and place.fitting else ""
    if place.decode_s is not None and place.tokens_per_s is not None:
        text += f"; decode {_slower(place.decode_s)} ({rate(place.tokens_per_s)} tok/s)"
    if place.instead is not None:
        text += "; with that alone blocks are computed by the reference kernels, ten times slower"
        text += f" or more: -ot '{place.instead}' moves what belongs together"
        if place.instead_bytes < 0:
            text += f", {format_bytes(-place.instead_bytes)} too much"
    return text


def _slower(seconds: float) -> str:
    if abs(seconds) < LEAST_S:
        return "as fast"
    return f"{'-' if seconds < 0 else '+'}{milliseconds(abs(seconds))} ms a token"
