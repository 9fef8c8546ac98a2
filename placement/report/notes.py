"""What a plan's reader should know beside the table: rules without effect, costly splits, a missing
GPU.
"""

import re
from dataclasses import dataclass, replace
from itertools import count

from placement.cost.expert_stats import EVEN
from placement.cost.node_reads import nodes_notes
from placement.cost.predict import expected_pace
from placement.cost.whole import placed_layers
from placement.inventory import Role
from placement.machines.estimates import speeds_of
from placement.machines.machine import CPU, gpu_findings
from placement.machines.speeds import DISK_GB_S
from placement.memory.file_map import file_map, without_map
from placement.memory.gpu_scratch import streams_experts
from placement.memory.reference_blocks import reference_blocks, scattered_blocks
from placement.plan import PlacementPlan
from placement.report.idle_notes import idle_notes
from placement.report.ways_out import crowded_notes, ways_out
from placement.request import Request
from placement.rule_warnings import rule_warnings
from placement.solve.draft import draft
from placement.solve.homes import least_of_a_gpu
from placement.solve.trials import overfull
from placement.tensor_names import layers_text, number_pattern
from placement.units import format_bytes, rate
from placement.workload import cache_bytes

LESS = 0.97  # times as fast: a price that is told
MORE = 1.3  # times as fast: worth typing -ub
MAPPED_UBATCHES = (4096, 2048, 1024)


def plan_notes(request: Request, plan: PlacementPlan) -> PlacementPlan:
    """The same plan with its notes filled in."""
    notes = [*rule_warnings(request.inventory, plan), *_split_notes(plan)]
    notes += plan.notes
    notes += idle_notes(request, plan)
    notes += _empty_gpu_notes(request, plan)
    notes += _reference_notes(request, plan) or crowded_notes(request, plan)
    notes += _stream_notes(request, plan)
    notes += _choice_notes(request, plan)
    notes += _cache_notes(request, plan)
    if not request.machine.gpus:
        ngl = request.gpu_layers_text
        ignored = "" if request.gpu_layers is None else f"; -ngl {ngl} has no effect"
        found = "".join(f" ({finding})" for finding in gpu_findings(request.machine))
        notes.append(f"no GPU{found}: everything on the CPU{ignored}")
    notes += _map_notes(request, plan, speeds_of(request.machine).host.disk_gb_s)
    notes += nodes_notes(plan, request.machine, speeds_of(request.machine))
    host = request.machine.host
    ram_bytes = without_map(plan, plan.devices[0]).budget_bytes
    if ram_bytes > host.free_bytes:
        notes.append(
            f"the RAM budget of {format_bytes(ram_bytes)} is taken as told;"
            f" {format_bytes(host.free_bytes)} are free here now"
        )
    return replace(plan, notes=tuple(notes))


def _map_notes(request: Request, plan: PlacementPlan, disk_gb_s: float) -> list[str]:
    """What --mmap costs where RAM is too small, and with which micro-batch prompts cost less."""
    mapped = file_map(plan)
    if not mapped.missing_bytes:
        return []
    taken = f", at {disk_gb_s:.1f} GB/s"
    if disk_gb_s == DISK_GB_S:
        taken += " for want of a measured speed: a machine's file can give it as disk_gb_s,"
        taken += " under [host.speeds]"
    return [
        f"{format_bytes(mapped.missing_bytes)} of the {format_bytes(mapped.weights_bytes)} of"
        f" weights in RAM do not fit it: they come from disc again and again{taken}",
        *_mapped_prompts(request, plan),
    ]


def _mapped_prompts(request: Request, plan: PlacementPlan) -> list[str]:
    """A longer micro-batch, where disc is what prompts wait for and there is room for it."""
    load = plan.workload
    longer = [n for n in MAPPED_UBATCHES if load.ubatch_tokens < n <= load.context_tokens]
    for ubatch in () if plan.played_gpus else longer:
        rates = _rates_of_prompts(request, plan, ubatch)
        if rates is None:
            continue
        if rates.then < MORE * rates.now:
            break
        return [f"prompts read them from disc once a micro-batch: with -ub {ubatch} {rates.text()}"]
    return []


def _empty_gpu_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Why a GPU holds nothing, where its size is the reason."""
    empty = [use for use in plan.devices if not use.total_bytes and use.name != CPU]
    if not empty:
        return []
    scratch, with_block = least_of_a_gpu(request)
    notes = []
    for use in empty:
        subject, needed = "one block's scratch needs", scratch
        if scratch <= use.budget_bytes:
            subject, needed = "the smallest block with its scratch needs", with_block
        if needed > use.budget_bytes:
            budget = format_bytes(use.budget_bytes)
            notes.append(
                f"{use.name} holds nothing: {subject} {format_bytes(needed)} of its {budget}"
                f"{_smaller(request, use.budget_bytes)}"
            )
    return notes


def _smaller(request: Request, budget_bytes: int) -> str:
    """Advice that helps: smaller micro-batches only where the smallest would fit."""
    least = replace(request.workload, ubatch_tokens=1, attention_work_bytes=1)
    _, with_block = least_of_a_gpu(request.with_workload(least))
    if with_block <= budget_bytes:
        return "; smaller -ub and -amb need less"
    return "; it is too small for any block"


def _reference_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Blocks that the kernels of their home do not take."""
    if plan.workload.kernels != "fast":
        return []
    tensors = {tensor.name: tensor for tensor in request.inventory.tensors}
    placed = plan.layers, plan.assignments, tensors
    found = reference_blocks(*placed) | scattered_blocks(*placed)
    notes = []
    for why in dict.fromkeys(why for why, _ in found.values()):
        layers = [layer for layer, (its, _) in found.items() if its == why]
        _, part = found[layers[0]]
        notes.append(
            f"{layers_text(layers)} {'is' if len(layers) == 1 else 'are'}"
            f" computed by the reference kernels, ten times slower or more: {why} ({part.tensor} is"
            f" on {part.device}, the block on {plan.layers[layers[0]]})"
            f"{ways_out(request, plan, layers)}"
        )
    return notes


def _stream_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """Which side computes experts in RAM for the blocks on GPUs, when a prompt is read."""
    inventory = request.inventory
    shape, tokens = inventory.shape, plan.workload.ubatch_tokens
    used, experts, each = shape.expert_used_count, shape.expert_count, plan.workload.stream_tokens
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    away = any(
        part.device == CPU
        and tensors[part.tensor].role is Role.ROUTED_EXPERT
        and plan.layers[tensors[part.tensor].layer or 0] != CPU
        for part in plan.assignments
    )
    if plan.workload.kernels != "fast" or not away or streams_experts(tokens, used, experts, each):
        return []
    enough = next(n for n in count(tokens) if streams_experts(n, used, experts, each))
    if enough > plan.workload.context_tokens:
        return []
    return [
        f"prompts: in micro-batches of {tokens} tokens the CPU computes the experts in RAM; from"
        f" -ub {enough} on they are brought to the GPUs{_streamed_rates(request, plan, enough)}"
    ]


def _streamed_rates(request: Request, plan: PlacementPlan, ubatch: int) -> str:
    """A prompt of so many tokens in one micro-batch, and in those of the plan."""
    if plan.played_gpus:
        return ""
    rates = _rates_of_prompts(request, plan, ubatch)
    return ", for which there is no room" if rates is None else f": {rates.text()}"


@dataclass(frozen=True, slots=True)
class _Rates:
    """Tokens per second with the plan's micro-batch and with a longer one, of a prompt of as many
    tokens and decoding."""

    now: float
    then: float
    now_decodes: float
    then_decodes: float

    def text(self) -> str:
        price = ""
        if self.then_decodes < LESS * self.now_decodes:
            price = f"; decoding then {rate(self.then_decodes)}, not {rate(self.now_decodes)}"
        return (
            f"about {rate(self.then)} tok/s instead of {rate(self.now)}, for a prompt of as many"
            f" tokens{price}"
        )


def _rates_of_prompts(request: Request, plan: PlacementPlan, ubatch: int) -> _Rates | None:
    """None where there is no room for it."""
    wide = draft(request.with_workload(replace(plan.workload, ubatch_tokens=ubatch)))
    if overfull(wide):
        return None
    (now, then), decoding = (
        [
            expected_pace(one, request.inventory, request.machine, 0, tokens)[0].tokens_per_s
            for one in (plan, wide)
        ]
        for tokens in (ubatch, 0)
    )
    return _Rates(now, then, *decoding)


def _choice_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """What the experts' statistics come to, of the blocks that have such experts."""
    if not request.expert_stats.sums or all(home == CPU for home in plan.layers):
        return []
    layers = {t.layer for t in request.inventory.tensors if t.role is Role.ROUTED_EXPERT}
    shares = []
    for usage in (request.expert_stats, EVEN):
        placed = placed_layers(plan, request.inventory, usage)
        here = [1 - its.in_ram for layer, its in enumerate(placed) if layer in layers]
        shares.append(100 * sum(here) / len(here))
    return [
        f"statistics: {shares[0]:.0f} % of choices fall on experts on GPUs, {shares[1]:.0f} % if"
        " all were chosen alike"
    ]


def _cache_notes(request: Request, plan: PlacementPlan) -> list[str]:
    """What -nkvo costs."""
    if not plan.workload.cache_in_ram:
        return []
    on_gpus = [home for home in plan.layers if home != CPU]
    if not on_gpus:
        return []
    nbytes = cache_bytes(request.inventory.shape, plan.workload, len(on_gpus))
    spare = sum(u.budget_bytes - u.total_bytes for u in plan.devices if u.name in on_gpus)
    room = "; the GPUs have room for it: leave -nkvo out" if spare > 2 * nbytes else ""
    return [
        f"the cache in RAM: at full context GPUs read {format_bytes(nbytes)} of it over PCIe for"
        f" every token{room}"
    ]


def _split_notes(plan: PlacementPlan) -> list[str]:
    """Gate and up apart cost a crossing in the middle of every feed-forward."""
    where: dict[str, set[tuple[tuple[int, int] | None, str]]] = {}
    for part in plan.assignments:
        if re.search(r"\.ffn_(gate|up|down)(_exps|_shexp)?\.weight$", part.tensor):
            where.setdefault(part.tensor, set()).add((part.experts, part.device))
    split: dict[tuple[str, str], list[int]] = {}
    for name, places in where.items():
        found = re.fullmatch(r"blk\.(\d+)\.ffn_gate(_exps|_shexp)?\.weight", name)
        if found is None:
            continue
        kind = found[2] or ""
        rest = [f"blk.{found[1]}.ffn_{part}{kind}.weight" for part in ("up", "down")]
        if any(where.get(other, places) != places for other in rest):
            whole = {device for experts, device in places if experts is None}
            split.setdefault((kind, min(whole, default="")), []).append(int(found[1]))
    return [
        f"gate, up and down of ffn{kind} are on different devices in {layers_text(layers)}: each"
        f" of their calls crosses between devices;"
        f" {_together(kind, device, layers)}"
        for (kind, device), layers in split.items()
    ]


def _together(kind: str, device: str, layers: list[int]) -> str:
    """What to type, where one rule does it."""
    if not device:
        return "give all three the same ranges of experts"
    names = rf"ffn_(gate|up|down){kind}\."
    return f"-ot 'blk\\.{number_pattern(layers)}\\.{names}={device}' first moves them together"
