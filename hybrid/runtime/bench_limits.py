"""What a decoded token cannot be faster than: its bytes out of the memories that hold them.

    seconds >= sum over stages of  max over memories of  (bytes read there) / (bytes/s of it)

A stage, attention or feed-forward of a block, waits for the one before it; within it memories are
read beside one another at best. So it is a limit for sure, of one sequence. The RAM's speed is
measured in the same run; a GPU's is that of copies within it, out of the machine's profile.
Simulated GPUs read RAM.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placement.cost.traffic import decode_stages, decode_traffic
from placement.inventory import ModelInventory
from placement.machines.estimates import speeds_of
from placement.machines.machine import DeviceKind, Machine
from placement.plan import PlacementPlan
from placement.tensor_names import device_ranges

RAM = "RAM"
LEAST_SHARE = 0.05  # of the limit's time, for a memory to be named


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """What memories allow a decoding sequence.

    tok_s         tokens per second
    memory        those that it waits for: "RAM, CUDA0-3"
    is_measured   False: the speed of one of them is estimated from what the device is
    """

    tok_s: float
    memory: str
    is_measured: bool = True

    def text(self) -> str:
        """ "RAM", "CUDA0 (estimated)"."""
        return self.memory if self.is_measured else f"{self.memory} (estimated)"


@dataclass(frozen=True, slots=True)
class TokenReads:
    """Bytes that one decoded token reads: by device of the plan, and stage by stage by memory."""

    by_device: Mapping[str, int]
    stages: Sequence[Mapping[str, int]]

    @property
    def by_memory(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for stage in self.stages:
            total.update(stage)
        return dict(total)

    @property
    def ram_bytes(self) -> int:
        return self.by_memory.get(RAM, 0)


def token_reads(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine, cached_tokens: int
) -> TokenReads:
    """Of a token with that many in the cache before it."""
    known = plan, inventory, cached_tokens
    by_device = {name: read.total_bytes for name, read in decode_traffic(*known).items()}
    cards = {device.name for device in machine.devices if device.kind is DeviceKind.GPU}
    stages = []
    for stage in decode_stages(*known):
        by_memory: Counter[str] = Counter()
        for name, nbytes in stage.items():
            by_memory[name if name in cards else RAM] += nbytes
        stages.append(by_memory)
    return TokenReads(by_device, stages)


def read_limit(reads: TokenReads, machine: Machine, ram_read_gb_s: float) -> ReadLimit | None:
    """What is waited for; None when nothing is read."""
    gpus, measured = speeds_of(machine).gpus, machine.speeds.gpus if machine.speeds else {}
    gb_s = {RAM: ram_read_gb_s} | {name: gpu.copy_gb_s for name, gpu in gpus.items()}
    waits: dict[str, float] = {}
    for stage in reads.stages:
        times = {memory: nbytes / (gb_s[memory] * 1e9) for memory, nbytes in stage.items()}
        slowest = max(times, key=times.__getitem__, default=RAM)
        waits[slowest] = waits.get(slowest, 0.0) + times.get(slowest, 0.0)
    whole = sum(waits.values())
    if not whole:
        return None
    named = [memory for memory, wait in waits.items() if wait >= LEAST_SHARE * whole]
    is_measured = all(memory == RAM or memory in measured for memory in named)
    return ReadLimit(1 / whole, device_ranges(named), is_measured)
