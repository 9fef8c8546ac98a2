"""What stays the same through a run, taken from the plan once: facts, devices, nodes, layers, and
how many bytes a token reads where.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time

from hybrid.live.compared import Predicted, curve
from hybrid.live.snapshot import DeviceView, LayerView, MemoryView, NodeView, RunFacts
from hybrid.runtime.prepare import Prepared
from placement.cost.traffic import decode_traffic
from placement.inventory import ModelInventory, Role
from placement.machines.estimates import speeds_of
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.machines.speeds import MachineSpeeds
from placement.memory.parts import WEIGHTS, Part, device_parts
from placement.plan import DeviceUse, PlacementPlan
from placement.report.device_memory import with_mark
from placement.tensor_names import number_ranges

GB = 1e9


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes that a decoded token reads on one device: weights, and some for each token before."""

    weight_bytes: int
    cached_token_bytes: int

    def at(self, cached_tokens: int) -> int:
        return self.weight_bytes + cached_tokens * self.cached_token_bytes


@dataclass(frozen=True, slots=True)
class PlanView:
    """Views with what is measured left out, and what measuring needs.

    reads         by device
    experts_bytes that a decoded token reads of routed experts in RAM, for the CPU
    spread        whether all of RAM's bytes lie evenly over `nodes`, so that each reads as much
    uuids         NVML's names of real GPUs, by device
    node_cpus     of each NUMA node
    predicted     speeds over depths
    """

    facts: RunFacts
    devices: tuple[DeviceView, ...]
    nodes: tuple[NodeView, ...]
    layers: tuple[LayerView, ...]
    reads: Mapping[str, Reading]
    spread: bool
    uuids: Mapping[str, str]
    node_cpus: Mapping[int, tuple[int, ...]]
    predicted: Predicted = Predicted()
    experts_bytes: int = 0


def plan_view(prepared: Prepared, command: str) -> PlanView:
    """Of one model on one machine. Takes some milliseconds: once a run.

    command   as in RunFacts
    """
    plan, stock, machine = prepared.plan, prepared.inventory, prepared.machine
    speeds = speeds_of(machine)
    parts = device_parts(plan, stock, machine)
    layout = prepared.layout
    of_ram = layout.nodes or tuple(node.index for node in machine.memory_nodes)
    return PlanView(
        facts=_facts(prepared, command),
        devices=tuple(
            _device(use, plan, parts[use.name], machine, speeds)
            for use in plan.devices
            if use.total_bytes or use.name == CPU
        ),
        nodes=_nodes(machine, speeds, of_ram),
        layers=_layers(plan, stock),
        reads=_reads(plan, stock),
        spread=len(of_ram) < 2 or layout.policy.value in ("interleave", "shard"),
        uuids={gpu.name: gpu.uuid for gpu in machine.gpus if gpu.uuid is not None},
        node_cpus={node.index: node.cpus for node in machine.numa_nodes},
        predicted=_predicted(plan),
        experts_bytes=_experts_bytes(plan, stock),
    )


def plan_line(plan: PlacementPlan, layers: Sequence[LayerView]) -> str:
    """ "CUDA0 layers 0-26; experts on CPU"; experts are not named where they are at home."""
    homes: dict[str, list[int]] = {}
    for index, home in enumerate(plan.layers):
        named = with_mark(home, simulated=home in plan.played_gpus)
        homes.setdefault(named, []).append(index)
    text = ", ".join(f"{home} layers {number_ranges(its)}" for home, its in homes.items())
    with_experts = [layer for layer in layers if layer.experts]
    if all(layer.experts == (layer.attention,) for layer in with_experts):
        return text
    devices = dict.fromkeys(name for layer in with_experts for name in layer.experts)
    return f"{text}; experts on {', '.join(devices)}"


def _facts(prepared: Prepared, command: str) -> RunFacts:
    plan = prepared.plan
    told = plan.prediction
    return RunFacts(
        pid=os.getpid(),
        command=command,
        model=plan.model,
        architecture=plan.architecture,
        plan_line=plan_line(plan, _layers(plan, prepared.inventory)),
        started_at=time(),
        context_tokens=plan.workload.context_tokens,
        ubatch_tokens=plan.workload.ubatch_tokens,
        threads=len(prepared.cpus.cpus),
        predicted_decode_tok_s=told.decode[0].tokens_per_s if told and told.decode else None,
        predicted_prompt_tok_s=told.prompt[0].tokens_per_s if told and told.prompt else None,
        predicted_error=told.error if told else None,
        limit=told.limit if told else "",
    )


def _predicted(plan: PlacementPlan) -> Predicted:
    told = plan.prediction
    if told is None:
        return Predicted()
    ubatch_tokens = min((pace.tokens for pace in told.prompt), default=0)
    return Predicted(curve(told.decode), curve(told.prompt), ubatch_tokens)


def _device(
    use: DeviceUse,
    plan: PlacementPlan,
    parts: Sequence[Part],
    machine: Machine,
    speeds: MachineSpeeds,
) -> DeviceView:
    device = machine.device(use.name)
    known = machine.speeds
    is_measured = known is not None
    assert device is not None, "a plan that was checked names devices of its machine"
    limit_gb_s = None  # of one that is simulated the RAM is the limit, as the CPU's own
    if device.kind is DeviceKind.GPU:
        limit_gb_s = speeds.gpus[use.name].copy_gb_s
        is_measured = known is not None and use.name in known.gpus
    elif device.kind is DeviceKind.CPU:
        limit_gb_s = speeds.host.read_gb_s
    return DeviceView(
        name=use.name,
        kind="gpu" if device.is_gpu else "cpu",
        description=device.description,
        memory=MemoryView(
            weights={part.what: part.nbytes for part in parts if part.category == WEIGHTS},
            cache_bytes=use.cache_bytes,
            compute_bytes=use.compute_bytes,
            other_bytes=use.other_bytes,
            planned_bytes=use.total_bytes,
            budget_bytes=use.budget_bytes,
            total_bytes=device.total_bytes,
        ),
        seconds={},
        cache_capacity_tokens=plan.workload.context_tokens if use.cache_bytes else None,
        read_limit_bytes_s=None if limit_gb_s is None else limit_gb_s * GB,
        read_limit_is_measured=None if limit_gb_s is None else is_measured,
    )


def _nodes(machine: Machine, speeds: MachineSpeeds, of_ram: Sequence[int]) -> tuple[NodeView, ...]:
    """One for the whole host where the system lists none."""
    is_measured, measured = machine.speeds is not None, dict(speeds.host.by_node)
    share = speeds.host.read_gb_s / max(len(of_ram), 1)
    return tuple(
        NodeView(
            node.index,
            node.total_bytes or None,
            None,
            read_limit_bytes_s=measured.get(node.index, share) * GB
            if node.index in of_ram
            else None,
            read_limit_is_measured=is_measured if node.index in of_ram else None,
        )
        for node in machine.numa_nodes
    ) or (
        NodeView(
            0,
            machine.host.total_bytes,
            None,
            read_limit_bytes_s=share * GB,
            read_limit_is_measured=is_measured,
        ),
    )


def _layers(plan: PlacementPlan, stock: ModelInventory) -> tuple[LayerView, ...]:
    tensors = {tensor.name: tensor for tensor in stock.tensors}
    experts = [Counter[str]() for _ in plan.layers]
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        if tensor.role is Role.ROUTED_EXPERT and tensor.layer is not None:
            experts[tensor.layer][part.device] += part.nbytes
    return tuple(
        LayerView(index, home, tuple(name for name, _ in counts.most_common()))
        for index, (home, counts) in enumerate(zip(plan.layers, experts, strict=True))
    )


def _experts_bytes(plan: PlacementPlan, stock: ModelInventory) -> int:
    """Experts are taken to be chosen evenly."""
    tensors = {tensor.name: tensor for tensor in stock.tensors}
    used = stock.shape.expert_used_count
    found = [(part, tensors[part.tensor]) for part in plan.assignments if part.device == CPU]
    return sum(
        part.nbytes * used // tensor.experts
        for part, tensor in found
        if tensor.role is Role.ROUTED_EXPERT
    )


def _reads(plan: PlacementPlan, stock: ModelInventory) -> dict[str, Reading]:
    """Bytes grow with every cached token alike."""
    empty, after_one = decode_traffic(plan, stock, 0), decode_traffic(plan, stock, 1)
    return {name: Reading(empty[name].total_bytes, after_one[name].cache_bytes) for name in empty}
