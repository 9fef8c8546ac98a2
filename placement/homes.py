"""Where each block and the head live: contiguous runs over the GPUs, proportional to their room.

    room of a GPU = budget - compute - bytes that rules put there
    CPU: blk.0 .. s-1 | CUDA0: blk.s .. a | CUDA1: blk.a+1 .. last, head

The first blocks stay on the CPU, as with llama.cpp's -ngl, so that one hidden state crosses once.
A block all of whose attention tensors are moved by rules lives where they went.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from placement.claims import Claims, claimed_bytes
from placement.errors import PlacementError
from placement.home_scratch import scratch_of_a_home
from placement.inventory import Role, TensorInfo
from placement.machine import CPU
from placement.request import Request
from placement.rules import OWN_GPU
from placement.workload import cache_bytes

SHARE_PARTS = 1 << 40


@dataclass(frozen=True, slots=True)
class Homes:
    """A device and a reason for each trunk block and for the head."""

    layers: tuple[str, ...]
    reasons: tuple[str, ...]
    head: str
    head_reason: str
    tied_head: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """Bytes that the blocks, the head and the rules ask for.

    layers      per block: what follows it to its home, with it one layer of cache that is not kept
                in RAM
    head        what follows the head, its additional scratch with it
    rooms       per GPU in machine order: bytes left for blocks and head
    shares      of the blocks by number, per GPU, as -ts says; None: of their bytes, by the rooms
    moved       home of each block whose attention was moved by rules
    bound_gpu   blocks of which a rule wants something on "their GPU"
    """

    layers: tuple[int, ...]
    head: int
    rooms: tuple[int, ...]
    shares: tuple[int, ...] | None
    moved: Mapping[int, str]
    bound_gpu: frozenset[int]


def sits_with_head(tensor: TensorInfo, tied_head: bool) -> bool:
    """The head itself, the output norm, and the embedding when it is the head too."""
    if tensor.role is Role.EMBEDDING:
        return tied_head
    return tensor.role is Role.HEAD or (tensor.role is Role.NORM and tensor.layer is None)


def choose_homes(request: Request, claims: Claims) -> Homes:
    """Homes of every block and of the head. Raises PlacementError for a negative gpu_layers."""
    count, wanted = request.inventory.shape.layers, request.gpu_layers
    if wanted is not None and wanted < 0:
        raise PlacementError(
            f"-ngl {wanted} is negative",
            remedy=f"-ngl takes 0 to {count + 1}: {count} blocks and the head; or leave it out",
        )
    demand = _demand(request, claims)
    gpus = [gpu.name for gpu in request.machine.gpus]
    if not gpus:
        return _named(request, demand, {}, None, "there is no GPU")
    if wanted is None:
        start, with_head = _most_that_fits(demand)
        why = "the GPUs have no room for it"
    else:
        start, with_head = max(count + 1 - wanted, 0), wanted > 0
        why = f"-ngl {wanted} leaves it on the CPU"
    homes = {layer: gpus[gpu] for layer, gpu in _spread(demand, start, with_head).items()}
    return _named(request, demand, homes, _head_home(demand, homes, with_head), why)


def least_of_a_gpu(request: Request, claims: Claims) -> tuple[int, int]:
    """(scratch, scratch with the smallest block): bytes without which a GPU can hold no block."""
    scratch = scratch_of_a_home(request, claims, with_head=False)
    return scratch, scratch + min(_demand(request, claims).layers, default=0)


def _named(
    request: Request, demand: Demand, homes: Mapping[int, str], head: str | None, why: str
) -> Homes:
    layers, reasons = [], []
    for layer in range(request.inventory.shape.layers):
        home = demand.moved.get(layer, homes.get(layer, CPU))
        layers.append(home)
        if layer in demand.moved:
            reasons.append("where rules moved its attention")
        else:
            reasons.append(f"{why}" if home == CPU else "by layer over the GPUs")
    head_reason = f"on the CPU: {why}" if head is None else "where the last blocks are"
    tied = request.inventory.has_tied_head
    return Homes(tuple(layers), tuple(reasons), head or CPU, head_reason, tied)


def _demand(request: Request, claims: Claims) -> Demand:
    inventory, tied = request.inventory, request.inventory.has_tied_head
    in_ram = request.workload.cache_in_ram
    cache = 0 if in_ram else cache_bytes(inventory.shape, request.workload, 1)
    layers = [cache] * inventory.shape.layers
    head = 0
    fixed: Counter[str] = Counter()
    bound_gpu = set()
    for tensor in inventory.tensors:
        for claim in claims.get(tensor.name, ()):
            nbytes = claimed_bytes(tensor, claim)
            device = None if claim.rule is None else request.rules[claim.rule].device
            if device == OWN_GPU and tensor.layer is not None:
                bound_gpu.add(tensor.layer)
            if device not in (None, OWN_GPU):
                fixed[str(device)] += nbytes
            elif sits_with_head(tensor, tied) or (tensor.layer is None and device == OWN_GPU):
                head += nbytes
            elif tensor.layer is not None and (
                device == OWN_GPU or tensor.role is not Role.ROUTED_EXPERT
            ):
                layers[tensor.layer] += nbytes
    moved = _moved_layers(request, claims)
    for layer, device in moved.items():
        fixed[device] += layers[layer]
    body, whole = (
        scratch_of_a_home(request, claims, with_head=False),
        scratch_of_a_home(request, claims, with_head=True),
    )
    rooms = tuple(
        max(request.budgets[gpu.name] - body - fixed[gpu.name], 0) for gpu in request.machine.gpus
    )
    shares = None
    if request.shares is not None:
        shares = tuple(round(share / sum(request.shares) * SHARE_PARTS) for share in request.shares)
    return Demand(
        tuple(layers), head + whole - body, rooms, shares, moved, frozenset(bound_gpu - set(moved))
    )


def _moved_layers(request: Request, claims: Claims) -> dict[int, str]:
    """Blocks whose attention rules took wholly, with the device that got most of its bytes."""
    bytes_on: dict[int, Counter[str]] = {}
    for tensor in request.inventory.tensors:
        if tensor.role is not Role.ATTENTION or tensor.layer is None:
            continue
        counter = bytes_on.setdefault(tensor.layer, Counter())
        for claim in claims[tensor.name]:
            device = OWN_GPU if claim.rule is None else request.rules[claim.rule].device
            counter[device] += claimed_bytes(tensor, claim)
    return {
        layer: max(sorted(counter), key=counter.__getitem__)
        for layer, counter in bytes_on.items()
        if OWN_GPU not in counter
    }


def _most_that_fits(demand: Demand) -> tuple[int, bool]:
    """(first block on a GPU, whether the head is too): as many blocks as fit, then the head.

    A block that a rule binds to its GPU is never left out; the check of the budgets reports it when
    it is too much.
    """
    count = len(demand.layers)
    latest = min(demand.bound_gpu, default=count)
    on_gpu = any(home != CPU for home in demand.moved.values())
    for start in range(latest + 1):
        for with_head in (True, False):
            items = _items(demand, start, with_head)
            holds_blocks = on_gpu or any(layer < count for layer in items)
            if holds_blocks and _filled(list(items.values()), demand.rooms) is not None:
                return start, with_head
    return latest, False


def _items(demand: Demand, start: int, with_head: bool) -> dict[int, int]:
    """Bytes of each block to be spread, the head's in the last; alone it is one past the last."""
    count = len(demand.layers)
    items = {i: demand.layers[i] for i in range(start, count) if i not in demand.moved}
    if with_head:
        last = max(items, default=count)
        items[last] = items.get(last, 0) + demand.head
    return items


def _spread(demand: Demand, start: int, with_head: bool) -> dict[int, int]:
    """GPU index per block. The head joins the last block, which makes room only if it must."""
    glued = _items(demand, start, with_head)
    blocks = _items(demand, start, with_head=False)
    chosen = _shared_out(list(blocks.values()), demand.rooms, demand.shares)
    if blocks and with_head:
        last = chosen[-1]
        used = sum(cost for cost, gpu in zip(blocks.values(), chosen, strict=True) if gpu == last)
        if used + demand.head <= demand.rooms[last]:
            return dict(zip(blocks, chosen, strict=True))
    chosen = _shared_out(list(glued.values()), demand.rooms, demand.shares)
    return dict(zip(glued, chosen, strict=True))


def _head_home(demand: Demand, homes: Mapping[int, str], with_head: bool) -> str | None:
    return homes[max(homes)] if with_head and homes else None


def _shared_out(
    costs: Sequence[int], rooms: Sequence[int], shares: Sequence[int] | None
) -> list[int]:
    """GPU index per item, contiguous: by the shares, or proportional to the rooms, else filled in
    turn.

    When neither holds, proportional all the same, for the budget check to report.
    """
    if shares is None:
        proportional = _proportional(costs, rooms)
    else:
        proportional = _proportional([1] * len(costs), shares)
    used = [0] * len(rooms)
    for cost, gpu in zip(costs, proportional, strict=True):
        used[gpu] += cost
    if all(nbytes <= room for nbytes, room in zip(used, rooms, strict=True)):
        return proportional
    return _filled(costs, rooms) or proportional


def _proportional(costs: Sequence[int], weights: Sequence[int]) -> list[int]:
    """GPU index per item: the one in whose share of all weight the item's middle falls."""
    ends = list(accumulate(weights))
    chosen = []
    for end, cost in zip(accumulate(costs), costs, strict=True):
        # (end - cost/2) / all costs * all weight, in whole numbers
        middle = (2 * end - cost) * ends[-1] // max(2 * sum(costs), 1)
        chosen.append(min(bisect_right(ends, middle), len(weights) - 1))
    return chosen


def _filled(costs: Sequence[int], rooms: Sequence[int]) -> list[int] | None:
    """GPU index per item, each GPU filled before the next; None when items are left over."""
    chosen: list[int] = []
    gpu, used = 0, 0
    for cost in costs:
        while gpu < len(rooms) and used + cost > rooms[gpu]:
            gpu, used = gpu + 1, 0
        if gpu == len(rooms):
            return None
        chosen.append(gpu)
        used += cost
    return chosen
