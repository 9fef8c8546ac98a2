"""Each device's planned bytes by what they are for: rows of the device table and segments of its
bar, on a terminal and on a page.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, UNLOADED, Machine
from placement.memory.file_map import without_map
from placement.plan import PlacementPlan
from placement.tensor_names import device_ranges, name_ranges, number_ranges
from placement.units import format_bytes

# column -> roles whose weights it sums; a column without bytes is left out
GROUPS = {
    "attention": (Role.ATTENTION, Role.NORM),
    "dense": (Role.DENSE_FFN,),
    "shared": (Role.SHARED_EXPERT, Role.ROUTER),
    "routed": (Role.ROUTED_EXPERT,),
    "embed+head": (Role.EMBEDDING, Role.HEAD),
}
GROUP_OF = {role: group for group, roles in GROUPS.items() for role in roles}
CATEGORIES = (*GROUPS, "cache", "compute", "other")
ALWAYS = ("cache", "compute")
MOST_APART = 4  # GPUs that have a row or a column each, whatever they hold
MOST_NAMES = 60  # characters of tensor names in one line
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device of a plan.

    parts   bytes by category, in the order of CATEGORIES, all of them
    mapped_bytes   of all bytes, those in the file's map: they need no budget
    node    NUMA node or nodes it hangs on: "0", "0-1"; empty where nobody knows
    link    to the host: "PCIe 4 x16"; likewise
    simulated   a GPU that the CPU plays
    """

    name: str
    budget_bytes: int
    parts: tuple[tuple[str, int], ...]
    mapped_bytes: int = 0
    node: str = ""
    link: str = ""
    simulated: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(nbytes for _, nbytes in self.parts)

    @property
    def text(self) -> str:
        """ "16.3 GiB of 23.0 GiB", "209.8 GiB (206.0 GiB mapped) of 124.0 GiB"."""
        mapped = f" ({format_bytes(self.mapped_bytes)} mapped)" if self.mapped_bytes else ""
        return f"{format_bytes(self.total_bytes)}{mapped} of {format_bytes(self.budget_bytes)}"


def device_memory(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine | None = None
) -> tuple[DeviceMemory, ...]:
    """One entry per device of the plan, in its order."""
    roles = {tensor.name: tensor.role for tensor in inventory.tensors}
    weights: Counter[tuple[str, str]] = Counter()
    for part in plan.assignments:
        if part.device != UNLOADED:
            weights[part.device, GROUP_OF[roles[part.tensor]]] += part.nbytes
    found = []
    for use in plan.devices:
        parts = [(group, weights[use.name, group]) for group in GROUPS]
        parts += [
            ("cache", use.cache_bytes),
            ("compute", use.compute_bytes),
            ("other", use.other_bytes),
        ]
        node, link = _node(use.name, machine), _link(use.name, machine)
        budget = without_map(plan, use).budget_bytes
        mapped = use.budget_bytes - budget
        found.append(
            DeviceMemory(use.name, budget, tuple(parts), mapped, node, link, use.simulated)
        )
    return tuple(found)


def device_rows(memory: tuple[DeviceMemory, ...]) -> list[list[str]]:
    """The device table, heads first: bytes in one unit, budgets and headroom each in its own."""
    used = {category for device in memory for category, nbytes in device.parts if nbytes}
    columns = [name for name in CATEGORIES if name in used or name in ALWAYS]
    unit = unit_of(max(device.total_bytes for device in memory))
    in_map = any(device.mapped_bytes for device in memory)
    # bytes in the map need no room of the budget
    limited = ["mapped", "budget", "headroom without map"] if in_map else ["budget", "headroom"]
    heads = [f"in {unit}", *columns, "total", *limited]
    more = [name for name in ("node", "link") if any(getattr(device, name) for device in memory)]
    rows = []
    for device in memory:
        sizes = [nbytes for category, nbytes in device.parts if category in columns]
        sizes += [device.total_bytes, *([device.mapped_bytes] * in_map)]
        numbers = [f"{n / UNITS[unit]:.2f}" if n else "-" for n in sizes]
        own_bytes = device.total_bytes - device.mapped_bytes
        limits = [device.budget_bytes, device.budget_bytes - own_bytes]
        about = [getattr(device, name) or "-" for name in more]
        rows.append([device.name, *numbers, *(format_bytes(n) for n in limits), *about])
    joined = [
        [with_mark(names, simulated=memory[first].simulated), *rows[first][1:]]
        for names, first in alike(rows)
    ]
    each = "each " if len(joined) < len(rows) else ""
    return [[f"{each}{heads[0]}", *heads[1:], *more], *joined]


def alike(rows: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """Devices that are shown alike, and the first row of each kind; of few GPUs every one apart.

    rows   a device's name, then what is shown of it
    """
    if sum(row[0] != CPU for row in rows) <= MOST_APART:
        return [(row[0], index) for index, row in enumerate(rows)]
    kinds: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        kinds.setdefault(tuple(row[1:]), []).append(index)
    return [(device_ranges([rows[i][0] for i in those]), those[0]) for those in kinds.values()]


def with_mark(names: str, *, simulated: bool) -> str:
    """ "CUDA0 (simulated)"."""
    return f"{names} (simulated)" if simulated else names


def unloaded_texts(plan: PlacementPlan, inventory: ModelInventory) -> list[str]:
    """What stays in the file, by reason: "2.6 MiB of blk.5.attn_q: not read by this model"."""
    layers = {tensor.name: tensor.layer for tensor in inventory.tensors}
    stay: dict[str, list[tuple[str, int]]] = {}
    for part in plan.assignments:
        if part.device == UNLOADED:
            stay.setdefault(part.reason, []).append((part.tensor, part.nbytes))
    texts = []
    for reason, parts in stay.items():
        what = ", ".join(name_ranges(name for name, _ in parts))
        numbers = [layers[name] for name, _ in parts]
        if len(what) > MOST_NAMES:
            inside = number_ranges(number for number in numbers if number is not None)
            what = f"{len(parts)} tensors of blk.{inside}" if inside else f"{len(parts)} tensors"
        texts.append(f"{format_bytes(sum(n for _, n in parts))} of {what}: {reason}")
    return texts


def unit_of(largest_bytes: int) -> str:
    """The unit in which a table with this largest number reads well."""
    return next((unit for unit, size in UNITS.items() if largest_bytes >= size), "KiB")


def _node(name: str, machine: Machine | None) -> str:
    if machine is None:
        return ""
    if name == CPU:
        nodes = machine.memory_nodes
        return number_ranges(node.index for node in nodes) if len(nodes) > 1 else ""
    device = machine.device(name)
    return "" if device is None or device.numa_node is None else str(device.numa_node)


def _link(name: str, machine: Machine | None) -> str:
    """At its best generation: an idle GPU's link is slowed down until something crosses it."""
    found = next((link for link in machine.links if link.device == name), None) if machine else None
    if found is None:
        return ""
    generation = found.max_generation or found.pcie_generation
    width = found.pcie_width or found.max_width
    if generation is None or width is None:
        return ""
    return f"PCIe {generation} x{width}"
