"""Bytes that an assignment of tensors and blocks asks of each device: what a draft counts, and what
a plan from a file is held against.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from placement.inventory import ModelInventory, Role, TensorInfo
from placement.machines.machine import CPU, UNLOADED, Machine
from placement.memory.gpu_scratch import computed_tokens, gpu_parts
from placement.memory.native_scratch import native_bytes
from placement.memory.overheads import Held, Named, gpu_overheads, host_overheads, readers_of
from placement.memory.reference_blocks import reference_blocks
from placement.plan import Assignment
from placement.workload import Hosted, Workload, cache_bytes, cache_homes, compute_bytes

LAYER_WORK = (Role.ATTENTION, Role.DENSE_FFN, Role.SHARED_EXPERT, Role.ROUTER)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one device, by category.

    compute, other   the parts of it, each with what it is for
    """

    weights_bytes: int
    cache_bytes: int
    compute: tuple[Named, ...]
    other: tuple[Named, ...]

    @property
    def compute_bytes(self) -> int:
        return sum(nbytes for _, nbytes in self.compute)

    @property
    def other_bytes(self) -> int:
        return sum(nbytes for _, nbytes in self.other)


def device_needs(
    inventory: ModelInventory,
    workload: Workload,
    layers: Sequence[str],
    assignments: Iterable[Assignment],
    names: Iterable[str],
    machine: Machine | None = None,
) -> dict[str, Need]:
    """The need of each device in `names`, which hold every tensor that is loaded.

    layers    home of each block
    machine   None leaves out what is not the plan's: contexts, workspaces, the program
    """
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    here: dict[str, list[TensorInfo]] = {name: [] for name in names}
    weights = dict.fromkeys(here, 0)
    loaded = [part for part in assignments if part.device != UNLOADED]
    for part in loaded:
        here[part.device].append(tensors[part.tensor])
        weights[part.device] += part.nbytes
    fallen = reference_blocks(tuple(layers), loaded, tensors)
    caches = cache_homes(layers, workload)
    needs, hosts = {}, {}
    plain = True
    for name, held in sorted(here.items(), key=lambda item: item[0] == CPU):  # the CPU last
        hosted = _hosted(held, layers.count(name), inventory.has_tied_head)
        cache = cache_bytes(inventory.shape, workload, caches.count(name))
        if name != CPU:
            hosted = _with_homes(hosted, name, layers, loaded, tensors)
            known = hosted.plain and all(layers[layer] != name for layer in fallen)
            hosted = replace(hosted, plain=known)
            plain = plain and known
            compute = gpu_parts(inventory.shape, workload, hosted)
        else:
            load = workload_of_host(inventory, workload, blocks=hosted.layers > 0, plain=plain)
            compute = _host_scratch(inventory, load, hosted)
        needs[name], hosts[name] = Need(weights[name], cache, compute, ()), hosted
    needs = {name: needs[name] for name in here}
    return needs if machine is None else _with_overheads(needs, hosts, inventory, workload, machine)


def workload_of_host(
    inventory: ModelInventory, workload: Workload, *, blocks: bool, plain: bool
) -> Workload:
    """With the largest micro-batch that the CPU sees of it.

    blocks   whether it computes more than routed experts
    plain    whether all blocks on GPUs run by their kernels
    """
    if blocks or not plain:
        return workload
    return replace(workload, ubatch_tokens=computed_tokens(inventory.shape, workload))


def _host_scratch(
    inventory: ModelInventory, workload: Workload, hosted: Hosted
) -> tuple[Named, ...]:
    """Native kernels for whole blocks, the reference's scratch for anything else."""
    reference = compute_bytes(inventory.shape, workload, hosted)
    if not hosted.layers and not hosted.routed_experts:
        return (("the reference's scratch", reference),)
    native = native_bytes(inventory.shape, workload, attention=hosted.layers > 0)
    if native >= reference:
        return (("workspace of native kernels", native),)
    return (("the reference's scratch", reference),)


def _with_overheads(
    needs: Mapping[str, Need],
    hosts: Mapping[str, Hosted],
    inventory: ModelInventory,
    workload: Workload,
    machine: Machine,
) -> dict[str, Need]:
    readers = readers_of(machine)
    held = {
        device.name: Held(
            device,
            needs[device.name].weights_bytes + needs[device.name].cache_bytes,
            needs[device.name].compute_bytes,
            hosts[device.name],
        )
        for device in machine.devices
        if device.name in needs
    }
    found = dict(needs)
    gpus = [its for name, its in held.items() if name != CPU]
    for gpu in gpus:
        others = gpu_overheads(gpu, workload, readers)
        found[gpu.device.name] = replace(needs[gpu.device.name], other=others)
    if CPU in held:
        others = host_overheads(inventory.shape, workload, held[CPU], gpus, readers)
        found[CPU] = replace(needs[CPU], other=others)
    return found


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
