"""Which bytes of host memory are for which NUMA node: decided from the plan, before any is taken.

    interleave   every page in turn over the nodes
    shard        the routed experts' feed-forward length F is cut into one stretch per node,
                 at borders of down's blocks; a node holds its rows of gate and up and its
                 columns of down, for all experts; the rest is interleaved
    local, off   the system's choice

    node n computes  down[:, Fn] · (silu(gate[Fn] x) * (up[Fn] x));  the sum over n is the FFN

So a node's workers read their own memory first, and what crosses is one vector per node. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid.gguf.table import GgufTensor
from hybrid.runtime.numa_calls import NumaPolicy
from hybrid.runtime.options import LoadOptions
from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.plan import Assignment, PlacementPlan
from placement.tensor_names import number_ranges
from placement.units import format_bytes

Bounds = tuple[int, ...]  # node n has feed-forward values bounds[n] .. bounds[n+1]-1
Piece = tuple[str, tuple[int, int] | None]  # tensor and experts of an assignment

MOST_PARTS = 16  # MAX_PARTS of kernels/native/records.py, which would import torch
LEAST_COLUMNS = 32  # of a cut: what one vector instruction takes, also of formats without blocks
NODE_RESERVE = 32  # of a node's free bytes, one in so many is not for bound pages


@dataclass(frozen=True, slots=True)
class HostLayout:
    """What is done with host memory.

    nodes        with memory for this process; less than two leave nothing to decide
    part_nodes   of them those that threads run on, as the threads number them: part n is for the
                 workers of node n (`placement.machines.cpus`)
    cuts         assignments that are cut over the part nodes, and where
    node_bytes   planned weights and caches per node; empty where the system decides
    """

    policy: NumaPolicy = NumaPolicy.OFF
    nodes: tuple[int, ...] = ()
    part_nodes: tuple[int, ...] = ()
    cuts: Mapping[Piece, Bounds] | None = None
    node_bytes: Mapping[int, int] | None = None
    notes: tuple[str, ...] = ()

    def bounds(self, assignment: Assignment) -> Bounds | None:
        """Where an assignment is cut; None for one that stays whole."""
        return (self.cuts or {}).get((assignment.tensor, assignment.experts))

    def text(self) -> str:
        """ "shard over 2 nodes: node0 3.2 GiB, node1 3.2 GiB"."""
        if len(self.nodes) < 2:
            return f"{self.policy.value}; one node, which holds everything"
        sizes = [f"node{node} {format_bytes(n)}" for node, n in (self.node_bytes or {}).items()]
        where = ", ".join(sizes) or "the system decides, page by page"
        return f"{self.policy.value} over {len(self.nodes)} nodes: {where}"


def part_bytes(nbytes: int, bounds: Bounds) -> list[int]:
    """Bytes of each node's part of a cut matrix: exact, for bounds lie on borders of blocks."""
    return [nbytes * (end - first) // bounds[-1] for first, end in _stretches(bounds)]


def cut(length: int, step: int, count: int) -> Bounds | None:
    """`length` values in `count` stretches of whole steps, the first ones a step longer when they
    cannot be equal: 44 steps over 3 are 15, 15, 14. None when there are fewer steps than stretches
    or the length is not of whole steps.
    """
    steps, rest = divmod(length, step)
    if rest or steps < count:
        return None
    each, longer = divmod(steps, count)
    return tuple((each * n + min(n, longer)) * step for n in range(count + 1))


def host_layout(
    plan: PlacementPlan,
    stock: ModelInventory,
    tensors: Mapping[str, GgufTensor],
    machine: Machine,
    options: LoadOptions,
    thread_nodes: Sequence[int],
) -> HostLayout:
    """The layout for the options' `--numa`.

    thread_nodes   `ThreadCpus.system_nodes`
    """
    policy, mapped = NumaPolicy(options.numa), options.mmap
    nodes = tuple(node.index for node in machine.memory_nodes)
    part_nodes = tuple(node for node in thread_nodes if node in nodes)
    cuts: dict[Piece, Bounds] = {}
    notes: list[str] = []
    if policy is NumaPolicy.SHARD and (hindrance := _hindrance(part_nodes, mapped=mapped)):
        notes.append(f"--numa shard cuts nothing: {hindrance}")
    elif policy is NumaPolicy.SHARD:
        cuts, whole = _cuts(plan, stock, tensors, len(part_nodes))
        notes += _left_whole(whole)
        bound = _bound_bytes(plan, part_nodes, cuts)
        if short := _shortage(machine, _node_bytes(plan, machine, bound, mapped=False)):
            notes.append(f"--numa shard: {short}; experts are interleaved")
            cuts = {}
    if policy is NumaPolicy.SHARD and not cuts:
        policy = NumaPolicy.INTERLEAVE
    if len(nodes) < 2 or policy in (NumaPolicy.LOCAL, NumaPolicy.OFF):
        return HostLayout(policy, nodes, notes=tuple(notes))
    node_bytes = _node_bytes(plan, machine, _bound_bytes(plan, part_nodes, cuts), mapped=mapped)
    if short := _shortage(machine, node_bytes):
        notes.append(f"--numa {policy.value}: {short}; pages will go to other nodes")
    return HostLayout(policy, nodes, part_nodes, cuts, node_bytes, tuple(notes))


def _hindrance(part_nodes: Sequence[int], *, mapped: bool) -> str | None:
    """Why nothing can be cut over these nodes.

    mapped   weights stay in the file's map, where no policy reaches
    """
    if len(part_nodes) < 2:
        return "the threads run on fewer than two NUMA nodes with memory"
    if len(part_nodes) > MOST_PARTS:
        return f"{len(part_nodes)} NUMA nodes, at most {MOST_PARTS} can have parts"
    return "weights in the file's map (--mmap) cannot be divided" if mapped else None


def _cuts(
    plan: PlacementPlan, stock: ModelInventory, tensors: Mapping[str, GgufTensor], count: int
) -> tuple[dict[Piece, Bounds], list[int]]:
    """Cuts of every range of experts whose matrices are all in RAM; layers that stay whole."""
    roles = {t.name: (t.role, t.layer) for t in stock.tensors}
    groups: dict[tuple[int, tuple[int, int] | None], list[Assignment]] = {}
    for part in plan.assignments:
        role, layer = roles[part.tensor]
        if role is Role.ROUTED_EXPERT and layer is not None and part.device == CPU:
            groups.setdefault((layer, part.experts), []).append(part)
    cuts: dict[Piece, Bounds] = {}
    whole: list[int] = []
    for (layer, experts), parts in groups.items():
        bounds = _group_bounds([tensors[part.tensor] for part in parts], count)
        if bounds is None:
            whole.append(layer)
        else:
            cuts |= {(part.tensor, experts): bounds for part in parts}
    return cuts, whole


def _group_bounds(matrices: Sequence[GgufTensor], count: int) -> Bounds | None:
    """Where the matrices of one range of experts are cut; None when one of them is elsewhere, or
    too short.
    """
    down = next((m for m in matrices if ".ffn_down_exps." in m.name), None)
    if down is None or any(len(matrix.shape) != 3 for matrix in matrices):
        return None
    length = down.shape[-1]
    rows = [matrix.shape[1] for matrix in matrices if matrix is not down]
    if rows not in ([length, length], [2 * length]):  # gate and up, or both in one tensor
        return None
    step = down.format.block_weights
    wide = max(step, LEAST_COLUMNS)
    return cut(length, wide, count) or cut(length, step, count)


def _bound_bytes(
    plan: PlacementPlan, part_nodes: Sequence[int], cuts: Mapping[Piece, Bounds]
) -> dict[int, int]:
    """Bytes of parts on each node."""
    bound = dict.fromkeys(part_nodes, 0)
    for part in plan.assignments:
        if bounds := cuts.get((part.tensor, part.experts)):
            for node, nbytes in zip(part_nodes, part_bytes(part.nbytes, bounds), strict=True):
                bound[node] += nbytes
    return bound


def _node_bytes(
    plan: PlacementPlan, machine: Machine, bound: Mapping[int, int], *, mapped: bool
) -> dict[int, int]:
    """Weights and caches in host memory, those of simulated GPUs too, per node: what is bound to
    it, and its share of the rest.
    """
    in_ram = {device.name for device in machine.devices if device.kind is not DeviceKind.GPU}
    uses = [use for use in plan.devices if use.name in in_ram]
    spread = sum(use.weights_bytes + use.cache_bytes for use in uses) - sum(bound.values())
    if mapped:
        spread -= sum(use.weights_bytes for use in uses if use.name == CPU)
    nodes = [node.index for node in machine.memory_nodes]
    return {node: bound.get(node, 0) + spread // len(nodes) for node in nodes}


def _shortage(machine: Machine, node_bytes: Mapping[int, int]) -> str | None:
    """The first node that is too full for its bytes. Bound pages cannot go elsewhere: the kernel
    would kill the process, not spread them.
    """
    for node in machine.memory_nodes:
        free = node.free_bytes - node.free_bytes // NODE_RESERVE
        if node_bytes[node.index] > free:
            return (
                f"node{node.index} has {format_bytes(node.free_bytes)} free, its share is "
                f"{format_bytes(node_bytes[node.index])}"
            )
    return None


def _left_whole(layers: Sequence[int]) -> list[str]:
    if not layers:
        return []
    return [
        f"--numa shard: experts of layers {number_ranges(sorted(set(layers)))} are interleaved: "
        "their matrices are not all in RAM, or have too few blocks for the nodes"
    ]


def _stretches(bounds: Bounds) -> list[tuple[int, int]]:
    return list(zip(bounds[:-1], bounds[1:], strict=True))
