"""Room for every layer's cache, as the plan has it.

    kept at the layer's home            the home's own arena
    kept in RAM, for a simulated GPU    the CPU's arena
    kept in RAM, for a GPU              an arena of RAM for that GPU, pinned and mapped: a tensor of
                                        the GPU over it, whose rows kernels read and write over the
                                        bus without knowing

A GPU maps RAM that is pinned, and cache that it cannot reach is of no use: where a driver or a
system refuses, loading ends, before weights are read.
"""

from collections import Counter

from torch import Tensor

from hybrid.errors import MachineError
from hybrid.runtime.memory import DeviceMemory, GpuMemory, HostMemory
from hybrid.runtime.pinning import LIMITS, GpuRegistrar, Unpin
from kernels.cuda.host_memory import mapped_tensor
from kernels.errors import CudaCallFailed, CudaDriverMissing
from placement.machines.machine import CPU
from placement.plan import PlacementPlan
from placement.units import format_bytes
from placement.workload import cache_homes

Memories = dict[str, DeviceMemory]


def arena_layers(plan: PlacementPlan, memories: Memories) -> Counter[str]:
    """Layers whose cache is in a device's own arena, by device."""
    mapped = mapped_layers(plan, memories)
    held = Counter(cache_homes(plan.layers, plan.workload))
    held[CPU] -= mapped.total()
    return held


def mapped_layers(plan: PlacementPlan, memories: Memories) -> Counter[str]:
    """Layers whose cache is in RAM and mapped by their home, by that GPU."""
    kept = zip(plan.layers, cache_homes(plan.layers, plan.workload), strict=True)
    return Counter(
        home for home, holder in kept if holder == CPU and isinstance(memories[home], GpuMemory)
    )


def take_cache_rooms(plan: PlacementPlan, memories: Memories, layer_bytes: int) -> list[Tensor]:
    """uint8 [layer_bytes] for each layer, on the device that computes its attention.

    Raises MachineError when RAM cannot be pinned for a GPU.
    """
    mapped = mapped_layers(plan, memories)
    rooms = {gpu: iter(_mapped_rooms(gpu, n, memories, layer_bytes)) for gpu, n in mapped.items()}
    holders = cache_homes(plan.layers, plan.workload)
    return [
        next(rooms[home]) if home in rooms else memories[holder].take(layer_bytes, "cache")
        for home, holder in zip(plan.layers, holders, strict=True)
    ]


def _mapped_rooms(gpu: str, layers: int, memories: Memories, layer_bytes: int) -> list[Tensor]:
    host = memories[CPU]
    assert isinstance(host, HostMemory), "the CPU's memory is RAM"
    rooms = [host.take_cache(gpu, layer_bytes) for _ in range(layers)]
    for room in rooms:
        room.zero_()  # the first touch: by all of the CPU's threads, pinning would take one
    arena, registrar = host.caches[gpu], GpuRegistrar(memories[gpu].place.torch_device)
    try:
        registrar.register(arena.address, arena.nbytes)
        arena.before_freeing(Unpin([arena.address], registrar))
        return [mapped_tensor(room, registrar.device) for room in rooms]
    except (CudaCallFailed, CudaDriverMissing) as error:
        raise MachineError(
            f"{gpu} cannot reach {format_bytes(arena.nbytes)} of cache in RAM",
            f"{error}; {LIMITS}",
            remedy=[
                "leave out -nkvo: the cache is then with its layers",
                "a smaller context: -c",
                "ulimit -l unlimited, before the program starts",
            ],
        ) from error
