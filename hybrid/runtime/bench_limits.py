"""What a decoded token cannot be faster than: its bytes out of the slowest memory that holds them.

    tok/s <= min over memories of  (GB/s of the memory) / (bytes a token reads there)

Memories are read beside one another at best, so that the slowest alone is a limit for sure. The
RAM's speed is measured in the same run; a GPU's is that of copies within it, out of the machine's
profile. Simulated GPUs read RAM.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from placement.cost.traffic import decode_traffic
from placement.inventory import ModelInventory
from placement.machines.estimates import speeds_of
from placement.machines.machine import DeviceKind, Machine
from placement.plan import PlacementPlan

RAM = "RAM"


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """The memory that binds decoding.

    tok_s         tokens per second that it allows
    memory        RAM, or a GPU's name
    is_measured   False: the memory's speed is estimated from what the device is
    """

    tok_s: float
    memory: str
    is_measured: bool = True

    def text(self) -> str:
        """ "RAM", "CUDA0 (estimated)"."""
        return self.memory if self.is_measured else f"{self.memory} (estimated)"


@dataclass(frozen=True, slots=True)
class TokenReads:
    """Bytes that one decoded token reads: by device of the plan, and by memory."""

    by_device: Mapping[str, int]
    by_memory: Mapping[str, int]

    @property
    def ram_bytes(self) -> int:
        return self.by_memory.get(RAM, 0)


def token_reads(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine, cached_tokens: int
) -> TokenReads:
    """Of a token with that many in the cache before it."""
    traffic = decode_traffic(plan, inventory, cached_tokens)
    by_device = {name: read.total_bytes for name, read in traffic.items()}
    cards = {device.name for device in machine.devices if device.kind is DeviceKind.GPU}
    by_memory: dict[str, int] = {}
    for name, nbytes in by_device.items():
        memory = name if name in cards else RAM
        by_memory[memory] = by_memory.get(memory, 0) + nbytes
    return TokenReads(by_device, by_memory)


def read_limit(reads: TokenReads, machine: Machine, ram_read_gb_s: float) -> ReadLimit | None:
    """The memory that binds; None when nothing is read."""
    gpus, measured = speeds_of(machine).gpus, machine.speeds.gpus if machine.speeds else {}
    limits = [
        ReadLimit(ram_read_gb_s * 1e9 / nbytes, RAM)
        if memory == RAM
        else ReadLimit(gpus[memory].copy_gb_s * 1e9 / nbytes, memory, memory in measured)
        for memory, nbytes in reads.by_memory.items()
        if nbytes
    ]
    return min(limits, key=lambda limit: limit.tok_s, default=None)
