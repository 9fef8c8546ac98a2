"""Seconds of a model's parts by bytes and bandwidths alone."""

from placement.inventory import ModelInventory, Role
from placement.machine import CPU, Machine
from placement.plan import PlacementPlan
from placement.prediction import Pace, Prediction
from placement.speeds import GpuSpeeds
from placement.traffic import decode_traffic
from placement.workload import Workload, cache_bytes

RAM_GB_S, GPU_GB_S, PCIE_GB_S = 50.0, 800.0, 25.0
CROSSING_S, HANDOVER_S, BLOCK_S, JOB_S = 30e-6, 15e-6, 8e-6, 10e-6


class Costs:
    """Made once for a request, asked thousands of times by the solver."""

    def __init__(self, inventory: ModelInventory, machine: Machine, workload: Workload) -> None:
        self._shape, self._machine, self._workload = inventory.shape, machine, workload
        self._cache = cache_bytes(inventory.shape, workload, 1) // 2
        self._body = [0] * inventory.shape.layers
        self._experts = [0.0] * inventory.shape.layers
        self._head = 0
        used = inventory.shape.expert_used_count / max(inventory.shape.expert_count, 1)
        for tensor in inventory.tensors:
            if tensor.layer is None:
                self._head += tensor.nbytes if tensor.role is Role.HEAD else 0
            elif tensor.layer < len(self._body):
                if tensor.role is Role.ROUTED_EXPERT:
                    self._experts[tensor.layer] += tensor.nbytes * used
                else:
                    self._body[tensor.layer] += tensor.nbytes

    def block(self, layer: int, home: str, goal: str) -> float:
        """Seconds of a block without its routed experts."""
        return (self._body[layer] + self._cache) / self._bytes_s(home) + BLOCK_S

    def experts(self, layer: int, home: str, in_ram: float, goal: str) -> float:
        """Seconds of its routed experts, the share in_ram of them computed in RAM."""
        nbytes = self._experts[layer]
        if not nbytes:
            return 0.0
        if home == CPU:
            return nbytes / self._bytes_s(CPU) + JOB_S
        there = nbytes * (1 - in_ram) / self._bytes_s(home)
        if not in_ram:
            return there
        return max(there, nbytes * in_ram / self._bytes_s(CPU) + JOB_S) + CROSSING_S

    def head(self, home: str, goal: str) -> float:
        """Seconds of the output head."""
        return self._head / self._bytes_s(home)

    def handover(self, before: str, after: str, goal: str) -> float:
        """Seconds between the homes of neighbouring blocks."""
        return 0.0 if before == after else HANDOVER_S

    def _bytes_s(self, name: str) -> float:
        speeds = self._machine.speeds
        if name == CPU:
            return 1e9 * (speeds.host.read_gb_s if speeds else RAM_GB_S)
        found: GpuSpeeds | None = speeds.gpus.get(name) if speeds else None
        return 1e9 * (found.copy_gb_s if found else GPU_GB_S)


def predict(plan: PlacementPlan, inventory: ModelInventory, machine: Machine) -> Prediction:
    """Tokens per second by bytes and bandwidths."""
    costs = Costs(inventory, machine, plan.workload)
    traffic = decode_traffic(plan, inventory)
    seconds = sum(use.total_bytes / costs._bytes_s(name) for name, use in traffic.items())
    homes = plan.layers
    seconds += BLOCK_S * len(homes)
    seconds += sum(costs.handover(a, b, "decode") for a, b in zip(homes, homes[1:], strict=False))
    pace = Pace(0, 1, 1 / seconds, {})
    return Prediction((pace,), (pace,), 0.5, "", "bytes and bandwidths")
