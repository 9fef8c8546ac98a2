"""Every device's planned bytes, part by part: what the report lists and the audit goes through.

weights   by role          cache   of so many layers
compute   by use           other   contexts, workspaces, buffers of loading, page tables, program
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, UNLOADED, Machine
from placement.memory.needs import Need, device_needs
from placement.memory.overheads import Named
from placement.plan import DeviceUse, PlacementPlan
from placement.workload import cache_homes

WEIGHTS, CACHE, COMPUTE, OTHER = CATEGORIES = ("weights", "cache", "compute", "other")
STAYS = "in the file"  # the category of what is not loaded


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of one device.

    category   one of CATEGORIES, or STAYS
    what       one phrase for a person
    """

    category: str
    what: str
    nbytes: int


def device_parts(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine
) -> dict[str, tuple[Part, ...]]:
    """Parts of each device of the plan, which sum to its categories; under UNLOADED what stays in
    the file, by role. Parts of no bytes are left out.
    """
    names = [use.name for use in plan.devices]
    needs = device_needs(inventory, plan.workload, plan.layers, plan.assignments, names, machine)
    roles = {tensor.name: tensor.role.value.replace("_", " ") for tensor in inventory.tensors}
    weights: dict[str, Counter[str]] = {name: Counter() for name in (*names, UNLOADED)}
    for part in plan.assignments:
        weights[part.device][roles[part.tensor]] += part.nbytes
    caches = cache_homes(plan.layers, plan.workload)
    found = {
        use.name: (
            *(Part(WEIGHTS, role, nbytes) for role, nbytes in weights[use.name].most_common()),
            *_cache_parts(use, plan, caches.count(use.name)),
            *_reserved(COMPUTE, needs[use.name].compute, use.compute_bytes),
            *_reserved(OTHER, _others(needs[use.name], use), use.other_bytes),
        )
        for use in plan.devices
    }
    if stays := weights[UNLOADED]:
        found[UNLOADED] = tuple(Part(STAYS, role, n) for role, n in stays.most_common())
    return found


def category_bytes(parts: tuple[Part, ...]) -> dict[str, int]:
    """Sums of parts by category, those of CATEGORIES always there."""
    total = dict.fromkeys(CATEGORIES, 0)
    for part in parts:
        total[part.category] = total.get(part.category, 0) + part.nbytes
    return total


def pinned_bytes(plan: PlacementPlan, parts: Mapping[str, tuple[Part, ...]]) -> int:
    """Of RAM, what GPUs copy from or write to: arenas where routed experts are in RAM, cache that
    GPUs map, buffers. GPUs that are played by the CPU pin nothing; weights that stay in the file's
    map (--mmap) are not pinned either.

    parts   `device_parts` of the plan
    """
    host = parts[CPU]
    buffers = sum(part.nbytes for part in host if "pinned" in part.what)
    if not buffers:
        return 0
    weights = {part.what: part.nbytes for part in host if part.category == WEIGHTS}
    cache = sum(part.nbytes for part in host if part.category == CACHE)
    if not plan.workload.mapped and Role.ROUTED_EXPERT.value.replace("_", " ") in weights:
        return buffers + cache + sum(weights.values())
    return buffers + cache * plan.workload.cache_in_ram


def _cache_parts(use: DeviceUse, plan: PlacementPlan, layers: int) -> tuple[Part, ...]:
    load = plan.workload
    each = f"{load.sequences} x " if load.sequences > 1 else ""
    what = f"{load.cache_format} rows of {layers} layers for {each}{load.context_tokens} tokens"
    return (Part(CACHE, what, use.cache_bytes),) if use.cache_bytes else ()


def _others(need: Need, use: DeviceUse) -> tuple[Named, ...]:
    """Nothing where a plan from a file was made without them."""
    return need.other if use.other_bytes else ()


def _reserved(category: str, named: tuple[Named, ...], nbytes: int) -> tuple[Part, ...]:
    """The parts, and what a plan from a file has reserved beyond them, or less."""
    parts = [Part(category, what, n) for what, n in named if n]
    if rest := nbytes - sum(part.nbytes for part in parts):
        parts.append(
            Part(category, "more in the plan than is needed" if rest > 0 else "less", rest)
        )
    return tuple(parts)
