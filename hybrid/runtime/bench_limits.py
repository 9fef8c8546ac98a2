"""What a decoded token cannot be faster than: its bytes out of the memories that hold them.

    seconds >= sum over stages of  max over memories of  (bytes read there) / (bytes/s of it)

A stage, attention or feed-forward of a block, waits for the one before it; within it memories are
read beside one another at best. It is a limit of one sequence whose experts are chosen evenly, with
memories as fast as they were measured: the RAM in the same run, a GPU's by copies within it, out of
the machine's profile. Simulated GPUs read RAM. A cache in RAM comes to GPUs over their bus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placement.cost.traffic import PCIE, decode_stages, decode_traffic
from placement.inventory import ModelInventory
from placement.machines.estimates import speeds_of
from placement.machines.machine import DeviceKind, Machine
from placement.plan import PlacementPlan
from placement.tensor_names import device_ranges

RAM = "RAM"
LEAST_SHARE = 0.05  # of the limit's time, for the RAM, the bus or all GPUs to be named


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """What memories allow a decoding sequence.

    tok_s         tokens per second
    memory        those that it waits for: "RAM, CUDA0-3", "PCIe, CUDA0"
    is_measured   False: 5 % of it or more are of memories whose speed is estimated from what the
                  device is
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
        """Those that GPUs read over their bus in them."""
        return self.by_memory.get(RAM, 0) + self.by_memory.get(PCIE, 0)


def token_reads(
    plan: PlacementPlan, inventory: ModelInventory, machine: Machine, cached_tokens: int
) -> TokenReads:
    """Of a token with that many in the cache before it."""
    traffic = decode_traffic(plan, inventory, cached_tokens)
    by_device = {name: read.total_bytes for name, read in traffic.items()}
    cards = {device.name for device in machine.devices if device.kind is DeviceKind.GPU}
    stages = []
    for stage in decode_stages(plan, inventory, cached_tokens):
        by_memory: Counter[str] = Counter()
        for name, nbytes in stage.items():
            of_a_card = name in cards or (name == PCIE and bool(cards))
            by_memory[name if of_a_card else RAM] += nbytes
        stages.append(by_memory)
    return TokenReads(by_device, stages)


def read_limit(reads: TokenReads, machine: Machine, ram_read_gb_s: float) -> ReadLimit | None:
    """What is waited for; None when nothing is read."""
    gpus, measured = speeds_of(machine).gpus, machine.speeds.gpus if machine.speeds else {}
    gb_s = {RAM: ram_read_gb_s} | {name: gpu.copy_gb_s for name, gpu in gpus.items()}
    gb_s[PCIE] = max((gpu.to_gpu_gb_s for gpu in gpus.values()), default=ram_read_gb_s)
    waits = dict.fromkeys(gb_s, 0.0)
    for stage in reads.stages:
        times = {memory: nbytes / (gb_s[memory] * 1e9) for memory, nbytes in stage.items()}
        if times:
            slowest = max(times, key=times.__getitem__)
            waits[slowest] += times[slowest]
    whole = sum(waits.values())
    if not whole:
        return None
    cards = [name for name in gpus if waits[name]]
    named: list[str] = []
    for group in ([PCIE], [RAM], cards):
        if sum(waits[memory] for memory in group) >= LEAST_SHARE * whole:
            named += group
    known = {RAM, *measured, *([PCIE] if measured else [])}
    estimated = sum(wait for memory, wait in waits.items() if memory not in known)
    return ReadLimit(1 / whole, device_ranges(named), estimated < LEAST_SHARE * whole)
