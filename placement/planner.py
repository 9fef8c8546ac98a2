"""inventory + machine + rules + workload -> a plan that fits, or one error with the smallest
change.

    plan()  = budgets -> draft (rules obeyed, blocks spread, bytes counted) -> fits? -> notes
              -> prediction
    draft   solve/draft.py: claims.py says which rule takes what, solve/homes.py where blocks live

Rules are constraints: they are obeyed to the letter even when the plan then does not fit. What they
leave open follows the roles: blocks and head on the GPUs, routed experts and embedding in RAM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from placement.cost.expert_stats import EVEN, ExpertStats
from placement.cost.node_reads import policy_here
from placement.cost.predict import GOALS, predict
from placement.cost.streaming import stream_tokens
from placement.inventory import ModelInventory
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.memory.budgets import device_budgets
from placement.memory.joined_ranges import joined_ranges
from placement.plan import PlacementPlan
from placement.report.idle_notes import share_notes
from placement.report.notes import plan_notes
from placement.request import Request, check_goal
from placement.rules import Rule
from placement.solve.draft import draft
from placement.solve.long_passes import with_long_passes
from placement.solve.shortfall import shortfall
from placement.solve.trials import overfull
from placement.units import rate
from placement.workload import Workload, check_workload

FASTER = 1.1  # by which the CPU alone must be to be worth a word


def plan(
    inventory: ModelInventory,
    machine: Machine,
    rules: Sequence[Rule],
    workload: Workload,
    *,
    budgets: Mapping[str, int] | None = None,
    gpu_layers: int | None = None,
    shares: tuple[float, ...] | None = None,
    optimize: str = GOALS[0],
    expert_stats: ExpertStats = EVEN,
    longer_ubatch: int | None = None,
    overfull_too: bool = False,
) -> PlacementPlan:
    """Where every tensor goes, with reasons; the same arguments give the same plan.

    budgets      bytes per device; negative: that much less than is free; left out: free bytes
                 (on a real GPU less a margin)
    gpu_layers   -ngl as llama.cpp counts it: the head, then the last blocks; None: what is fastest
    shares       of the blocks for each GPU, parts of a whole; GPUs beyond them get none
    optimize     for which time: "decode", "prompt" or "balanced"
    expert_stats which routed experts are chosen how often
    longer_ubatch  taken in place of the workload's micro-batch where GPUs compute blocks and what
                 makes room for it costs decoding little, or less than it gains where prompts are
                 optimised for: a short one has as many launches and weights to decode
    overfull_too give a plan also where it does not fit, without looking for what would
    Raises RuleError, PlacementError for arguments that cannot be obeyed, DoesNotFit with remedies.
    """
    check_workload(workload)
    asked = device_budgets(machine, budgets)
    check_goal(optimize)
    workload = replace(workload, numa_policy=policy_here(workload.numa_policy, machine))
    workload = replace(workload, stream_tokens=stream_tokens(inventory, machine, workload))
    request = Request(
        inventory,
        machine,
        tuple(rules),
        workload,
        asked,
        gpu_layers,
        for_gpus(shares, machine),
        optimize=optimize,
        expert_stats=expert_stats,
    )
    attempt = draft(request)
    if overfull(attempt) and not overfull_too:
        raise shortfall(request, attempt, longer_ubatch)
    request, attempt = with_long_passes(request, attempt, longer_ubatch)
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    joined = joined_ranges(attempt.assignments, tensors)
    made = plan_notes(request, replace(attempt, assignments=joined))
    made = replace(made, notes=(*share_notes(shares, machine), *made.notes))
    made = replace(made, prediction=predict(made, inventory, machine, expert_stats))
    return replace(made, notes=(*made.notes, *_without_gpus(request, made)))


def _without_gpus(request: Request, made: PlacementPlan) -> tuple[str, ...]:
    """That the CPU alone would be faster: who has a GPU has it used all the same."""
    real = all(gpu.kind is DeviceKind.GPU for gpu in request.machine.gpus)
    to_ram = all(rule.device == CPU for rule in request.rules)
    if not (real and to_ram and made.prediction and set(made.layers) != {CPU}):
        return ()
    host = replace(request.machine, devices=(request.machine.host,))
    alone = draft(replace(request, machine=host, costs=None))
    if overfull(alone):
        return ()
    found = predict(alone, request.inventory, host, request.expert_stats)
    notes = []
    for what, ours, its in (
        ("decode", made.prediction.decode[0], found.decode[0]),
        ("prompt", made.prediction.prompt[0], found.prompt[0]),
    ):
        if its.tokens_per_s > FASTER * ours.tokens_per_s:
            notes.append(f"{what} {rate(its.tokens_per_s)} tok/s, not {rate(ours.tokens_per_s)}")
    if not notes:
        return ()
    return (f"the CPU alone would be faster: {' and '.join(notes)}; --device none does so",)


def for_gpus(shares: tuple[float, ...] | None, machine: Machine) -> tuple[float, ...] | None:
    """One share for each GPU, as llama.cpp has it: what is missing is 0, what is too much is left
    out; None where nothing is left.
    """
    count = len(machine.gpus)
    found = ((shares or ()) + (0.0,) * count)[:count]
    return found if sum(found) > 0 else None
