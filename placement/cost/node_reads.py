"""What `--numa` is worth on a machine with several memory nodes: predictions and their words.

    interleave   pages in turn: every core reads (n - 1) / n of its bytes from other nodes
    shard        each node's cores read their own part of every routed expert; the rest in turn
    local, off   the system's choice: predicted as in turn, with a wider error

The gain of shard is `HostSpeeds.shard_gain`. Published: KTransformers' experts in slices per node
decode up to 63 % faster on two sockets, a tensor-parallel llama.cpp (pull request 14969) 64.6 %.
"""

from dataclasses import replace

from placement.machines.machine import CPU, Machine
from placement.machines.speeds import MachineSpeeds
from placement.plan import PlacementPlan
from placement.workload import Workload

INTERLEAVE, SHARD = "interleave", "shard"
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
SYSTEMS_CHOICE = ("local", "off")
NODES_ERROR = 0.2  # of reads over nodes that nobody measured, and of pages that the system places


def speeds_of_policy(speeds: MachineSpeeds, workload: Workload) -> MachineSpeeds:
    """The machine as this run reads its experts; a file's map cannot be cut."""
    sharded = workload.numa_policy == SHARD and not workload.mapped
    gain = speeds.host.shard_gain if sharded else 1.0
    return replace(speeds, host=replace(speeds.host, shard_gain=gain))


def policy_here(numa: str, machine: Machine) -> str:
    """Nothing is cut where there is one node."""
    return INTERLEAVE if numa == SHARD and len(machine.memory_nodes) < 2 else numa


def nodes_error(plan: PlacementPlan, machine: Machine, speeds: MachineSpeeds) -> float:
    """What several nodes add to the error of predictions."""
    if not _reads_nodes(plan, machine):
        return 0.0
    unknown = not speeds.host.by_node or plan.workload.numa_policy in SYSTEMS_CHOICE
    return NODES_ERROR if unknown else 0.0


def nodes_notes(plan: PlacementPlan, machine: Machine, speeds: MachineSpeeds) -> tuple[str, ...]:
    """Which policy was predicted, and where its figure comes from."""
    if not _reads_nodes(plan, machine):
        return ()
    count, numa = len(machine.memory_nodes), plan.workload.numa_policy
    known = "measured" if speeds.host.by_node else "estimated"
    begin = f"{count} NUMA nodes, --numa {numa}:"
    if plan.workload.mapped:
        return (f"{begin} the file's map lies where it was read first, no policy reaches it",)
    gain = f"{speeds.host.shard_gain:.2g} times as fast (from published runs, not measured)"
    if numa == SHARD:
        return (f"{begin} routed experts are taken to be read {gain} as pages in turn",)
    if numa in SYSTEMS_CHOICE:
        return (f"{begin} the system places pages; predicted as in turn over the nodes, {known}",)
    shard = f"; --numa shard is taken to read routed experts {gain}"
    return (f"{begin} reads over the nodes are {known}{shard if _has_experts(plan) else ''}",)


def with_policy(
    plan: PlacementPlan, machine: Machine, speeds: MachineSpeeds, numa: str
) -> PlacementPlan:
    """The plan for another policy than it was made for; its prediction is still the old one."""
    if numa == plan.workload.numa_policy:
        return plan
    changed = replace(plan, workload=replace(plan.workload, numa_policy=numa))
    old = nodes_notes(plan, machine, speeds)
    kept = tuple(note for note in plan.notes if note not in old)
    return replace(changed, notes=(*kept, *nodes_notes(changed, machine, speeds)))


def _reads_nodes(plan: PlacementPlan, machine: Machine) -> bool:
    return bool(_in_ram(plan)) and len(machine.memory_nodes) > 1


def _in_ram(plan: PlacementPlan) -> set[str]:
    """Tensors that tokens read whole or by experts: an embedding that is no head gives a row."""
    rows = {EMBEDDING} if any(part.tensor == HEAD for part in plan.assignments) else set()
    return {part.tensor for part in plan.assignments if part.device == CPU} - rows


def _has_experts(plan: PlacementPlan) -> bool:
    return any("_exps." in name for name in _in_ram(plan))
