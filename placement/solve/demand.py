"""What a request asks for before anybody knows which device gets which block: bytes that follow a
block to its home, bytes that rules put somewhere, experts that are free to go where there is room.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from placement.claims import Claim, claimed_bytes
from placement.inventory import Role, TensorInfo
from placement.machines.machine import CPU
from placement.request import Request
from placement.rules import OWN_GPU, Rule
from placement.workload import cache_bytes


@dataclass(slots=True)
class BlockDemand:
    """One trunk block.

    nbytes          what follows it to its home, with it its cache where that is not kept in RAM
    open_bytes      its routed experts that no rule takes
    open_range      (first, last) of them, the same in all its matrices, where the home's own
                    kernels take them; None: they stay in RAM
    whole           no rule takes any of its experts: each range from either end may be at home
    experts         it has
    expert_nbytes   bytes of each of its expert tensors
    expert_bytes    of one expert, all matrices together
    matrix_values   of the largest matrix that follows the block
    expert_values   of its experts' largest matrix
    pieces          claims on one of its expert tensors, at most
    ruled_experts   (first, last, device) that rules put somewhere, of its first expert tensor
    ruled_devices   where rules put others of its tensors
    odd             its experts are placed so that no GPU's own kernels take them
    """

    nbytes: int = 0
    open_bytes: int = 0
    open_range: tuple[int, int] | None = None
    whole: bool = False
    experts: int = 0
    expert_nbytes: tuple[int, ...] = ()
    expert_bytes: int = 0
    matrix_values: int = 0
    expert_values: int = 0
    pieces: int = 0
    ruled_experts: tuple[tuple[int, int, str], ...] = ()
    ruled_devices: frozenset[str] = frozenset()
    odd: bool = False

    @property
    def is_ruled_onto_gpus(self) -> bool:
        """Whether rules put any of it on a GPU by name: at home on the CPU, it would fall back."""
        experts = {device for _, _, device in self.ruled_experts}
        return bool((experts | self.ruled_devices) - {CPU, OWN_GPU})


@dataclass(slots=True)
class Held:
    """What rules, or its kind, put on one device whatever becomes of the blocks.

    layers   blocks that it has something of
    """

    nbytes: int = 0
    matrix_values: int = 0
    layer_work: bool = False
    routed_experts: bool = False
    head: bool = False
    layers: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Demand:
    """The whole model.

    held         by device, every device of the machine
    head_bytes   what follows the head
    head_values  of its largest matrix, 0 where rules have it
    moved        home of each block that no solver places: its attention was moved by rules
    beside       those of them that follow their routed experts, whose attention no rule has
    bound_gpu    other blocks of which a rule wants something on "their GPU"
    """

    blocks: tuple[BlockDemand, ...]
    held: dict[str, Held]
    head_bytes: int = 0
    head_values: int = 0
    moved: dict[int, str] = field(default_factory=dict)
    beside: frozenset[int] = frozenset()
    bound_gpu: set[int] = field(default_factory=set)

    def with_beside(self, homes: Mapping[int, str]) -> "Demand":
        """The same with free blocks on the GPUs that have their routed experts."""
        return replace(
            self,
            moved={**self.moved, **homes},
            beside=frozenset(homes),
            bound_gpu=self.bound_gpu - homes.keys(),
        )


def sits_with_head(tensor: TensorInfo, tied_head: bool) -> bool:
    """The head itself, the output norm, and the embedding when it is the head too."""
    if tensor.role is Role.EMBEDDING:
        return tied_head
    return tensor.role is Role.HEAD or (tensor.role is Role.NORM and tensor.layer is None)


def demand_of(request: Request) -> Demand:
    """Everything that a solver needs of the inventory and the rules."""
    inventory = request.inventory
    in_ram = request.workload.cache_in_ram
    cache = 0 if in_ram else cache_bytes(inventory.shape, request.workload, 1)
    blocks = tuple(BlockDemand(cache) for _ in range(inventory.shape.layers))
    counted = Demand(blocks, {device.name: Held() for device in request.machine.devices})
    experts: dict[int, list[TensorInfo]] = {}
    for tensor in inventory.tensors:
        if tensor.role is Role.ROUTED_EXPERT and tensor.layer is not None:
            experts.setdefault(tensor.layer, []).append(tensor)
        elif tensor.name in request.claims:
            _count_tensor(request, tensor, counted)
    for layer, tensors in experts.items():
        _count_experts(request, layer, tensors, counted)
    counted.moved |= _moved_layers(request)
    counted.bound_gpu -= set(counted.moved)
    return counted


def _count_tensor(request: Request, tensor: TensorInfo, counted: Demand) -> None:
    """One that is no routed expert."""
    tied = request.inventory.has_tied_head
    block = None if tensor.layer is None else counted.blocks[tensor.layer]
    device = _device(request.claims[tensor.name][0], request.rules)
    if device == OWN_GPU and tensor.layer is not None:
        counted.bound_gpu.add(tensor.layer)
    if device is not None and device != OWN_GPU:
        _hold(counted.held[device], tensor, tensor.nbytes, tied)
        if block is not None:
            block.ruled_devices |= {device}
    elif sits_with_head(tensor, tied) or (block is None and device == OWN_GPU):
        counted.head_bytes += tensor.nbytes
        counted.head_values = max(counted.head_values, tensor.matrix_values)
    elif block is None:
        _hold(counted.held[CPU], tensor, tensor.nbytes, tied)
    else:
        block.nbytes += tensor.nbytes
        block.matrix_values = max(block.matrix_values, tensor.matrix_values)


def _device(claim: Claim, rules: tuple[Rule, ...]) -> str | None:
    return None if claim.rule is None else rules[claim.rule].device


def _hold(held: Held, tensor: TensorInfo, nbytes: int, tied: bool) -> None:
    held.nbytes += nbytes
    if tensor.role is not Role.EMBEDDING or tied:
        held.matrix_values = max(held.matrix_values, tensor.matrix_values)
    if tensor.role is Role.ROUTED_EXPERT:
        held.routed_experts = True
    elif tensor.role is Role.HEAD or (tied and tensor.role is Role.EMBEDDING):
        held.head = True
    elif tensor.layer is not None and tensor.role is not Role.NORM:
        held.layer_work = True
    if tensor.layer is not None:
        held.layers.add(tensor.layer)


def _count_experts(
    request: Request, layer: int, tensors: list[TensorInfo], counted: Demand
) -> None:
    """One block's routed experts."""
    block, ranges = counted.blocks[layer], []
    for tensor in tensors:
        claims = request.claims[tensor.name]
        ranges.append([(c.first, c.last, _device(c, request.rules)) for c in claims])
        for claim in claims:
            device, nbytes = _device(claim, request.rules), claimed_bytes(tensor, claim)
            if device is None:
                block.open_bytes += nbytes
            elif device == OWN_GPU:
                block.nbytes += nbytes
                counted.bound_gpu.add(layer)
            else:
                _hold(counted.held[device], tensor, nbytes, tied=False)
    first = ranges[0]
    block.experts = tensors[0].experts
    block.expert_nbytes = tuple(tensor.nbytes for tensor in tensors)
    block.expert_bytes = sum(tensor.expert_bytes for tensor in tensors)
    block.expert_values = max(tensor.matrix_values for tensor in tensors)
    block.ruled_experts = tuple((a, b, d) for a, b, d in first if d is not None)
    block.pieces = max(len(claims) for claims in ranges)
    alike = all(other == first for other in ranges)
    merged = any("gate_up" in tensor.name for tensor in tensors)
    several = len(first) > len({device for _, _, device in first})
    on_gpu = {d for _, _, d in first} - {None, CPU}
    opened = [(a, b) for a, b, d in first if d is None]
    block.odd = not alike or several or (merged and bool(on_gpu))
    if alike and not merged and len(opened) == 1 and not on_gpu and len(first) <= 2:
        block.open_range, block.whole = opened[0], len(first) == 1


def _moved_layers(request: Request) -> dict[int, str]:
    """Blocks whose attention rules took wholly, with the device that got most of its bytes."""
    bytes_on: dict[int, Counter[str]] = {}
    for tensor in request.inventory.tensors:
        if tensor.role is not Role.ATTENTION or tensor.layer is None:
            continue
        counter = bytes_on.setdefault(tensor.layer, Counter())
        for claim in request.claims[tensor.name]:
            counter[_device(claim, request.rules) or OWN_GPU] += claimed_bytes(tensor, claim)
    return {
        layer: max(sorted(counter), key=counter.__getitem__)
        for layer, counter in bytes_on.items()
        if OWN_GPU not in counter
    }
