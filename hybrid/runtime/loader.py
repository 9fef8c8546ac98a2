"""From plan to weights on their devices: reserve everything, then say what has to be read.

reserve   every device's room for weights and cache: what does not fit fails here
place     `Weights`: per tensor its shards (whole, or a range of experts) with their device,
          their bytes still empty; a model can be built of them, so what it misses fails here
read      `reading.py`
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile, GgufTensor
from hybrid.runtime.cache import FloatCache, QuantisedCache, make_cache
from hybrid.runtime.cache_rooms import arena_layers, mapped_layers, take_cache_rooms
from hybrid.runtime.memory import DeviceMemory, HostMemory
from hybrid.runtime.node_layout import Bounds, HostLayout, part_bytes
from hybrid.runtime.reading import PIECE_BYTES
from hybrid.runtime.shards import NodeParts, Piece, node_parts, part_pieces
from kernels.blocks import BlockTensor
from placement.inventory import ModelShape
from placement.machines.machine import CPU, UNLOADED
from placement.memory.overheads import UPLOAD_BYTES
from placement.plan import Assignment, PlacementPlan
from placement.workload import Workload, cache_bytes

WeightT = TypeVar("WeightT", bound=BlockTensor | NodeParts)


@dataclass(frozen=True, slots=True)
class Shard(Generic[WeightT]):
    """One tensor, or its experts first..last, on one device; routed experts in RAM may be cut over
    NUMA nodes.
    """

    experts: tuple[int, int] | None
    device: str
    weight: WeightT


AnyShard = Shard[BlockTensor | NodeParts]
Weights = dict[str, tuple[AnyShard, ...]]
LatentCache = FloatCache | QuantisedCache


def reserve_memory(
    plan: PlacementPlan,
    memories: dict[str, DeviceMemory],
    shape: ModelShape,
    layout: HostLayout,
    *,
    mapped: bool,
) -> None:
    """Open every device's arena with room for its weights and the cache that it keeps."""
    layer_bytes = cache_bytes(shape, one_sequence(plan.workload), 1)
    kept, for_gpus = arena_layers(plan, memories), mapped_layers(plan, memories)
    for use in plan.devices:
        parts = [a for a in plan.assignments if a.device == use.name]
        whole = [a.nbytes for a in parts if use.name != CPU or layout.bounds(a) is None]
        if mapped and use.name == CPU:
            whole = []
        whole += [layer_bytes] * kept[use.name]
        bound: dict[int, list[int]] = {}
        for part in parts if use.name == CPU else ():
            for node, nbytes in _node_bytes(layout, part):
                bound.setdefault(node, []).append(nbytes)
        beside = for_gpus.total() * layer_bytes if use.name == CPU else 0
        memories[use.name].reserve(whole, use.compute_bytes + beside, bound)
    for gpu, layers in for_gpus.items():
        host = memories[CPU]
        assert isinstance(host, HostMemory), "the CPU's memory is RAM"
        host.open_cache(gpu, [layer_bytes] * layers)


def place_weights(
    file: GgufFile,
    plan: PlacementPlan,
    memories: dict[str, DeviceMemory],
    layout: HostLayout,
    *,
    mapped: bool,
) -> tuple[Weights, list[Piece]]:
    """Every assigned tensor in its place on its device, in the file's own blocks, not read yet.

    mapped   leave the CPU's tensors in the file's memory map
    returns  the weights, and what `read_weights` has to read before they mean anything
    """
    shards: dict[str, list[AnyShard]] = {}
    pieces: list[Piece] = []
    for assignment in plan.assignments:
        if assignment.device == UNLOADED:
            continue
        tensor = file.tensors[assignment.tensor]
        found = shards.setdefault(tensor.name, [])
        memory = memories[assignment.device]
        if assignment.device == CPU and (bounds := layout.bounds(assignment)):
            parts = _take_parts(tensor, assignment, bounds, layout, memory)
            found.append(Shard(assignment.experts, CPU, parts))
            first = _first_byte(tensor, assignment)
            pieces += part_pieces(tensor, bounds, first, parts, PIECE_BYTES)
            continue
        if mapped and assignment.device == CPU:
            target = _map_bytes(file, tensor, _first_byte(tensor, assignment), assignment.nbytes)
        else:
            target = memory.take(assignment.nbytes, "weights")
            pieces += _cut(tensor, _first_byte(tensor, assignment), target)
        weight = BlockTensor(_in_shape(target, tensor), tensor.format, tensor.shape[-1])
        found.append(Shard(assignment.experts, assignment.device, weight))
    return {name: tuple(found) for name, found in shards.items()}, pieces


def make_caches(
    plan: PlacementPlan, memories: dict[str, DeviceMemory], shape: ModelShape
) -> list[LatentCache]:
    """One cache per layer, read and written on the layer's home, its memory touched."""
    load, width = one_sequence(plan.workload), shape.cache_row_length
    rooms = take_cache_rooms(plan, memories, cache_bytes(shape, load, 1))
    return [make_cache(room, width, load.cache_format, in_ram=load.cache_in_ram) for room in rooms]


def one_sequence(workload: Workload) -> Workload:
    """What the engine computes of it."""
    return replace(workload, sequences=1)


def _node_bytes(layout: HostLayout, part: Assignment) -> list[tuple[int, int]]:
    """(node, bytes) of an assignment that is cut; nothing of one that stays whole."""
    bounds = layout.bounds(part)
    if bounds is None:
        return []
    return list(zip(layout.part_nodes, part_bytes(part.nbytes, bounds), strict=True))


def _take_parts(
    tensor: GgufTensor,
    assignment: Assignment,
    bounds: Bounds,
    layout: HostLayout,
    memory: DeviceMemory,
) -> NodeParts:
    sizes = _node_bytes(layout, assignment)
    rooms = [memory.take(nbytes, "weights", node) for node, nbytes in sizes]
    return node_parts(tensor, bounds, rooms)


def _first_byte(tensor: GgufTensor, assignment: Assignment) -> int:
    """Offset of the assignment's bytes within its tensor."""
    if assignment.experts is None:
        return 0
    return assignment.experts[0] * (tensor.nbytes // tensor.shape[0])


def _in_shape(target: Tensor, tensor: GgufTensor) -> Tensor:
    """Raw bytes as [..., rows, row_bytes]; the leading dimension shrinks to the experts that are
    here."""
    row = tensor.format.row_bytes(tensor.shape[-1])
    middle = tensor.shape[1:-1]
    return target.view(-1, *middle, row) if len(tensor.shape) > 1 else target.view(row)


def _map_bytes(file: GgufFile, tensor: GgufTensor, first: int, nbytes: int) -> Tensor:
    with warnings.catch_warnings():
        # torch warns that the map is read-only; nothing ever writes to weights.
        warnings.simplefilter("ignore", UserWarning)
        return torch.frombuffer(file.data(tensor)[first : first + nbytes], dtype=torch.uint8)


def _cut(tensor: GgufTensor, first: int, target: Tensor) -> Iterator[Piece]:
    """Pieces of whole rows: planes take no others."""
    most = UPLOAD_BYTES if target.device.type == "cuda" else PIECE_BYTES
    row = tensor.format.row_bytes(tensor.shape[-1])
    step = max(most // row, 1) * row
    for offset in range(0, target.numel(), step):
        yield Piece(tensor, first + offset, (target[offset : offset + step],))
