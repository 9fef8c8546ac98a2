"""From plan to weights on their devices: reserve everything, then read the file in parallel to
where it will stay.

    reserve   every device's room for weights and cache: what does not fit fails here
    place     `Weights`: per tensor its shards (whole, or a range of experts) with their device,
              their bytes still empty; a model can be built of them, so what it misses fails here
    read      16 MiB pieces by a few threads, straight into the host arena, through a staging
              buffer to GPUs
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile, GgufTensor
from hybrid.runtime.cache import FloatCache, QuantisedCache, make_cache
from hybrid.runtime.memory import DeviceMemory
from kernels.blocks import BlockTensor
from placement.inventory import ModelShape
from placement.machine import CPU, UNLOADED
from placement.plan import Assignment, PlacementPlan
from placement.workload import cache_bytes

PIECE_BYTES = (
    16 << 20
)  # large enough to stream from any disk, small enough for a smooth progress bar
READERS = 4

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Shard:
    """One tensor, or its experts first..last, on one device."""

    experts: tuple[int, int] | None
    device: str
    weight: BlockTensor


Weights = dict[str, tuple[Shard, ...]]
LatentCache = FloatCache | QuantisedCache


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the file and the part of an arena they belong in."""

    tensor: GgufTensor
    offset: int
    target: Tensor


def reserve_memory(
    plan: PlacementPlan, memories: dict[str, DeviceMemory], shape: ModelShape, *, mapped: bool
) -> None:
    """Open every device's arena with room for its weights and its layers' cache."""
    layer_bytes = cache_bytes(shape, plan.workload, 1)
    for use in plan.devices:
        sizes = [a.nbytes for a in plan.assignments if a.device == use.name]
        if mapped and use.name == CPU:
            sizes = []
        sizes += [layer_bytes for home in plan.layers if home == use.name]
        memories[use.name].reserve(sizes, use.compute_bytes)


def place_weights(
    file: GgufFile, plan: PlacementPlan, memories: dict[str, DeviceMemory], *, mapped: bool
) -> tuple[Weights, list[Piece]]:
    """Every assigned tensor in its place on its device, in the file's own blocks, not read yet.

    mapped   leave the CPU's tensors in the file's memory map
    returns  the weights, and what `read_weights` has to read before they mean anything
    """
    shards: dict[str, list[Shard]] = {}
    pieces: list[Piece] = []
    for assignment in plan.assignments:
        if assignment.device == UNLOADED:
            continue
        tensor = file.tensors[assignment.tensor]
        if mapped and assignment.device == CPU:
            target = _map_bytes(file, tensor, _first_byte(tensor, assignment), assignment.nbytes)
        else:
            target = memories[assignment.device].take(assignment.nbytes, "weights")
            pieces += _cut(tensor, _first_byte(tensor, assignment), target)
        weight = BlockTensor(_in_shape(target, tensor), tensor.format, tensor.shape[-1])
        shard = Shard(assignment.experts, assignment.device, weight)
        shards.setdefault(tensor.name, []).append(shard)
    return {name: tuple(found) for name, found in shards.items()}, pieces


def read_weights(file: GgufFile, pieces: list[Piece], progress: Progress) -> None:
    """Fill what `place_weights` placed, a few pieces at a time."""
    total = sum(piece.target.numel() for piece in pieces)
    staging = threading.local()

    def read(piece: Piece) -> int:
        nbytes = piece.target.numel()
        if piece.target.device.type == "cpu":
            view = piece.target.numpy().data
            file.read_into(piece.tensor, view, piece.offset, nbytes)
            return nbytes
        if not hasattr(staging, "buffer"):
            staging.buffer = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
        buffer = staging.buffer[:nbytes]
        file.read_into(piece.tensor, buffer.numpy().data, piece.offset, nbytes)
        piece.target.copy_(buffer)
        return nbytes

    done = 0
    progress(done, total)
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="hybrid-load")
    try:
        for nbytes in pool.map(read, pieces):
            done += nbytes
            progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def make_caches(
    plan: PlacementPlan, memories: dict[str, DeviceMemory], shape: ModelShape
) -> list[LatentCache]:
    """One cache per layer on the layer's home, its memory touched."""
    nbytes = cache_bytes(shape, plan.workload, 1)
    return [
        make_cache(
            memories[home].take(nbytes, "cache"),
            shape.cache_row_length,
            plan.workload.cache_format,
        )
        for home in plan.layers
    ]


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
    for offset in range(0, target.numel(), PIECE_BYTES):
        yield Piece(tensor, first + offset, target[offset : offset + PIECE_BYTES])
