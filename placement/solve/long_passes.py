"""Prompts in longer micro-batches than asked for, where GPUs compute blocks."""

from dataclasses import replace

from placement.cost.predict import expected_pace
from placement.machines.machine import DeviceKind
from placement.plan import PlacementPlan
from placement.request import Request
from placement.solve.draft import draft
from placement.solve.trials import overfull

MUCH, LITTLE = 1.1, 0.97  # times as fast: prompts, and decoding meanwhile


def with_long_passes(
    request: Request, attempt: PlacementPlan, ubatch: int | None
) -> tuple[Request, PlacementPlan]:
    """Both with the longer micro-batch, or as they are: where what makes room for it is worth more,
    where no GPU computes, where nobody proposes one.
    """
    load = request.workload
    tokens = min(ubatch or 0, load.context_tokens)
    cards = {gpu.name for gpu in request.machine.gpus if gpu.kind is DeviceKind.GPU}
    if load.kernels != "fast" or tokens <= load.ubatch_tokens or not cards & set(attempt.layers):
        return request, attempt
    wider = request.with_workload(replace(load, ubatch_tokens=tokens))
    longer = draft(wider)
    if overfull(longer) or not (
        _places(longer) == _places(attempt) or _sooner(wider, attempt, longer)
    ):
        return request, attempt
    return wider, longer


def _sooner(request: Request, attempt: PlacementPlan, longer: PlacementPlan) -> bool:
    """Whether the longer micro-batch is worth what makes room for it: by the goal's own measure;
    where decoding is the goal, where it hardly matters to that and much to prompts.
    """

    def gain(tokens: int) -> float:
        before, after = (
            expected_pace(one, request.inventory, request.machine, 0, tokens)[0].tokens_per_s
            for one in (attempt, longer)
        )
        return after / before

    prompts = gain(longer.workload.ubatch_tokens)
    if request.optimize == "prompt":
        return prompts > 1
    if request.optimize == "balanced":
        return prompts * gain(0) > 1
    return prompts > MUCH and gain(0) > LITTLE


def _places(plan: PlacementPlan) -> tuple[object, ...]:
    return (plan.layers, *((part.tensor, part.device, part.experts) for part in plan.assignments))
