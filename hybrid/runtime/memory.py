"""Bytes of the devices: one arena per device, sized by the plan before anything is read.

HostMemory        the CPU's RAM: huge pages under a NUMA policy (`arena.py`), by `node_layout.py`;
                  beside its own arena one for each GPU whose layers' cache is kept here
GpuMemory         a CUDA device: one allocation for weights and cache together
SimulatedMemory   a GPU that is not there: host memory under a GPU's byte budget
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hybrid.errors import MachineError
from hybrid.runtime.arena import HostArena, aligned, room_bytes
from hybrid.runtime.crossing import Place
from hybrid.runtime.node_layout import HostLayout
from hybrid.runtime.numa_calls import NumaPolicy
from placement.errors import DoesNotFit
from placement.machines.machine import CPU, Device, DeviceKind, Machine
from placement.plan import DeviceUse
from placement.units import format_bytes


@dataclass(slots=True)
class DeviceMemory:
    """What one device holds.

    budget_bytes   from the plan; weights, cache and planned scratch together stay within it
    used           bytes taken so far by category ("weights", "cache")
    """

    place: Place
    budget_bytes: int
    used: dict[str, int] = field(default_factory=dict)

    def reserve(
        self,
        sizes: Sequence[int],
        scratch_bytes: int,
        bound: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Set aside room for weights and cache of these sizes, beside scratch that ops will need.

        bound   sizes that are to lie on one NUMA node, by node

        Raises DoesNotFit beyond the budget, MachineError when the device has less than its budget.
        """
        bound = bound or {}
        nbytes = sum(sizes) + sum(map(sum, bound.values()))
        if nbytes + scratch_bytes > self.budget_bytes:
            raise DoesNotFit(
                f"the plan does not fit on {self.place.name}",
                f"needs {format_bytes(nbytes + scratch_bytes)} "
                f"(weights and cache {format_bytes(nbytes)}, "
                f"scratch {format_bytes(scratch_bytes)}), budget {format_bytes(self.budget_bytes)}",
                remedy="make a new plan on this machine: leave out --plan",
            )
        # Padding to cache lines, and of large tensors to pages, comes on top of what is budgeted.
        self._open(sum(map(room_bytes, sizes)), scratch_bytes)
        for node, parts in bound.items():
            self._open_bound(node, sum(map(room_bytes, parts)))

    def take(self, nbytes: int, category: str, node: int | None = None) -> Tensor:
        """The next `nbytes` of the reserved room as a uint8 tensor on the device.

        node   of the room that was reserved as bound to it
        """
        self.used[category] = self.used.get(category, 0) + nbytes
        return self._cut(nbytes) if node is None else self._cut_bound(nbytes, node)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should hear about how the room came out."""
        return ()

    def _open(self, nbytes: int, scratch_bytes: int) -> None:
        raise AssertionError("a kind of memory opens its own room")

    def _cut(self, nbytes: int) -> Tensor:
        raise AssertionError("a kind of memory cuts its own room")

    def _open_bound(self, node: int, nbytes: int) -> None:
        raise AssertionError("only host memory has NUMA nodes")

    def _cut_bound(self, nbytes: int, node: int) -> Tensor:
        raise AssertionError("only host memory has NUMA nodes")


@dataclass(slots=True)
class HostMemory(DeviceMemory):
    """RAM of this machine.

    layout   NUMA policy and nodes; under `shard` this is for what is not bound to a node
    bound    one more arena per node, for what is
    caches   one more arena per GPU, by its name, for cache that the GPU maps
    """

    layout: HostLayout = HostLayout()
    arena: HostArena | None = None
    bound: dict[int, HostArena] = field(default_factory=dict)
    caches: dict[str, HostArena] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be done as asked, and where pages lie among several NUMA nodes."""
        several = len(self.layout.nodes) > 1
        notes = [] if self.arena is None else _page_notes(self.arena, "", several)
        for node, arena in self.bound.items():
            notes += _page_notes(arena, f" of node{node}'s parts", several)
        for gpu, arena in self.caches.items():
            notes += _page_notes(arena, f" of {gpu}'s cache", several)
        return tuple(f"{self.place.name}: {note}" for note in notes)

    def open_cache(self, gpu: str, sizes: Sequence[int]) -> None:
        """Set aside cache of these sizes for a GPU to map; `reserve` has counted it as scratch."""
        self.caches[gpu] = self._spread_arena(sum(map(room_bytes, sizes)))

    def take_cache(self, gpu: str, nbytes: int) -> Tensor:
        """The next `nbytes` of a GPU's cache as a uint8 tensor in RAM."""
        self.used["cache"] = self.used.get("cache", 0) + nbytes
        return self.caches[gpu].take(nbytes)

    def _open(self, nbytes: int, scratch_bytes: int) -> None:
        self.arena = self._spread_arena(nbytes)

    def _cut(self, nbytes: int) -> Tensor:
        assert self.arena is not None, "reserve() comes first"
        return self.arena.take(nbytes)

    def _open_bound(self, node: int, nbytes: int) -> None:
        self.bound[node] = self._arena(nbytes, NumaPolicy.SHARD, (node,))

    def _cut_bound(self, nbytes: int, node: int) -> Tensor:
        return self.bound[node].take(nbytes)

    def _spread_arena(self, nbytes: int) -> HostArena:
        policy = self.layout.policy
        if policy is NumaPolicy.SHARD:
            policy = NumaPolicy.INTERLEAVE
        return self._arena(nbytes, policy, self.layout.nodes)

    def _arena(self, nbytes: int, policy: NumaPolicy, nodes: tuple[int, ...]) -> HostArena:
        try:
            return HostArena(nbytes, policy, nodes)
        except OSError as error:
            raise MachineError(
                f"no {format_bytes(nbytes)} of RAM for {self.place.name}: {error.strerror}",
                remedy=[
                    "close other programs, or a smaller context: -c",
                    "--mmap leaves the weights in the file",
                ],
            ) from error


def _page_notes(arena: HostArena, whose: str, several: bool) -> list[str]:
    """What came of an arena's pages; where they lie only when there were several nodes for them."""
    found = arena.placement()
    if found is None or not found.pages_per_node:
        return arena.notes
    notes = [*arena.notes, *arena.faults(found)]
    if several:
        size, huge = format_bytes(found.touched_bytes), format_bytes(found.huge_page_bytes)
        notes.append(f"pages by NUMA node{whose}: {found.shares()} ({size}, {huge} in huge pages)")
    return notes


class SimulatedMemory(HostMemory):
    """A GPU played by the CPU: the same bytes under the same budget, in host memory."""


@dataclass(slots=True)
class GpuMemory(DeviceMemory):
    room: Tensor | None = None
    taken_bytes: int = 0

    def _open(self, nbytes: int, scratch_bytes: int) -> None:
        try:
            # Scratch is taken and given back to torch's own pool: no other program gets it then.
            # It is held until the room is there, which would be cut out of it.
            device = self.place.torch_device
            scratch = torch.empty(scratch_bytes, dtype=torch.uint8, device=device)
            self.room = torch.empty(nbytes, dtype=torch.uint8, device=device)
            del scratch
            if device.type == "cuda":  # else the peak would be what was held back here
                torch.cuda.reset_peak_memory_stats(device)
        except (RuntimeError, AssertionError) as error:
            raise MachineError(
                f"{self.place.name} refuses {format_bytes(nbytes)}",
                str(error).splitlines()[0],
                remedy=[
                    "another program may hold the memory: nvidia-smi shows which",
                    f"--vram {self.place.name}=SIZE with a smaller size, or --device none",
                ],
            ) from error

    def _cut(self, nbytes: int) -> Tensor:
        assert self.room is not None, "reserve() comes first"
        first, self.taken_bytes = self.taken_bytes, self.taken_bytes + aligned(nbytes)
        return self.room[first : first + nbytes]


def open_memories(
    devices: tuple[DeviceUse, ...], machine: Machine, layout: HostLayout
) -> dict[str, DeviceMemory]:
    """An unopened memory for every device of the plan."""
    memories: dict[str, DeviceMemory] = {}
    for use in devices:
        device = machine.device(use.name)
        assert device is not None, "check_plan has looked for every device"
        if device.kind is DeviceKind.GPU:
            place = Place(use.name, cuda_device(device))
            memories[use.name] = GpuMemory(place, use.budget_bytes)
        else:
            place = Place(use.name, torch.device("cpu"))
            memory = SimulatedMemory if device.is_gpu else HostMemory
            memories[use.name] = memory(place, use.budget_bytes, layout=layout)
    assert CPU in memories, "every plan names the host"
    return memories


def cuda_device(device: Device) -> torch.device:
    """The torch device of the very card that was probed: libraries do not count cards alike."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        found = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        if found is not None and device.uuid == f"GPU-{found}":
            return torch.device("cuda", index)
    index = int(device.name.removeprefix("CUDA"))
    if device.uuid is None and index < count:
        return torch.device("cuda", index)
    raise MachineError(
        f"torch {torch.__version__} cannot reach {device.name}",
        f"torch sees {count} CUDA devices, none of them {device.uuid or device.description}",
        remedy=[
            "install a torch build for this driver's CUDA version",
            "--device none to run on the CPU alone",
        ],
    )
