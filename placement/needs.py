"""Bytes that an assignment of tensors and blocks asks of each device: what a draft counts, and what
a plan from a file is held against.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from placement.gpu_scratch import gpu_bytes
from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machine import CPU, UNLOADED
from placement.native_scratch import native_bytes
from placement.plan import Assignment
from placement.reference_blocks import reference_blocks
from placement.workload import Hosted, Workload, cache_bytes, cache_homes, compute_bytes

LAYER_WORK = (Role.ATTENTION, Role.DENSE_FFN, Role.SHARED_EXPERT, Role.ROUTER)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one device, by category."""

    weights_bytes: int
    cache_bytes: int
    compute_bytes: int


def device_needs(
    inventory: ModelInventory,
    workload: Workload,
    layers: Sequence[str],
    assignments: Iterable[Assignment],
    names: Iterable[str],
) -> dict[str, Need]:
    """The need of each device in `names`, which hold every tensor that is loaded.

    layers   home of each block
    """
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    held: dict[str, list[TensorInfo]] = {name: [] for name in names}
    weights = dict.fromkeys(held, 0)
    loaded = [part for part in assignments if part.device != UNLOADED]
    for part in loaded:
        held[part.device].append(tensors[part.tensor])
        weights[part.device] += part.nbytes
    caches = cache_homes(layers, workload)
    needs = {}
    for name, here in held.items():
        hosted = _hosted(here, layers.count(name), inventory.has_tied_head)
        cache = cache_bytes(inventory.shape, workload, caches.count(name))
        if name != CPU:
            hosted = _with_homes(hosted, name, layers, loaded, tensors)
            compute = gpu_bytes(inventory.shape, workload, hosted)
        else:
            compute = compute_bytes(inventory.shape, workload, hosted)
        if name == CPU and (hosted.layers or hosted.routed_experts):
            # native kernels for whole blocks, the reference's scratch for anything else
            compute = max(
                compute, native_bytes(inventory.shape, workload, attention=hosted.layers > 0)
            )
        needs[name] = Need(weights[name], cache, compute)
    return needs


def _with_homes(
    hosted: Hosted,
    name: str,
    layers: Sequence[str],
    loaded: Iterable[Assignment],
    tensors: Mapping[str, TensorInfo],
) -> Hosted:
    """What `hosted` does not say: how the blocks at home on the GPU `name` are made up."""
    plain, experts, expert_bytes = True, 0, Counter[int]()
    for part in loaded:
        tensor = tensors[part.tensor]
        if tensor.layer is None:
            continue
        at_home = layers[tensor.layer] == name
        routed = tensor.role is Role.ROUTED_EXPERT
        if at_home and routed and part.device == CPU:
            first, last = part.experts or (0, tensor.experts - 1)
            experts = max(experts, last - first + 1)
            expert_bytes[tensor.layer] += tensor.expert_bytes
        elif at_home != (part.device == name):
            plain = False
    # Blocks that fall back for other reasons, as the plan's notes tell them.
    fallen = reference_blocks(tuple(layers), loaded, tensors)
    plain = plain and all(layers[layer] != name for layer in fallen)
    return replace(
        hosted,
        homes=layers.count(name),
        away_experts=experts,
        away_expert_bytes=max(expert_bytes.values(), default=0),
        plain=plain,
    )


def _hosted(here: list[TensorInfo], layers: int, tied: bool) -> Hosted:
    roles = {tensor.role for tensor in here}
    is_head = Role.HEAD in roles or (tied and Role.EMBEDDING in roles)
    decoded = [t for t in here if t.role is not Role.EMBEDDING or tied]
    return Hosted(
        # a tensor away from its block's home is computed where it is, with the block's scratch
        layers=max(layers, int(any(role in roles for role in LAYER_WORK))),
        routed_experts=Role.ROUTED_EXPERT in roles,
        head=is_head,
        embedding=Role.EMBEDDING in roles,
        matrix_values=max((tensor.matrix_values for tensor in decoded), default=0),
    )
