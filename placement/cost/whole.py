"""Seconds of a whole plan at one moment: its blocks grouped by what they are alike in, so that a
model of 61 blocks costs as much as its three kinds of blocks.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from placement.cost.expert_stats import EVEN, ExpertStats
from placement.cost.gpu import Moment
from placement.cost.pieces import PartCosts, Placed, exact_speeds, speeds_of_run
from placement.cost.work import LayerWork, model_work
from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, UNLOADED
from placement.machines.speeds import MachineSpeeds
from placement.memory.file_map import file_map
from placement.memory.reference_blocks import reference_blocks, scattered_blocks
from placement.plan import PlacementPlan


class PlanCost:
    """usage   how often experts are chosen"""

    def __init__(
        self,
        plan: PlacementPlan,
        inventory: ModelInventory,
        speeds: MachineSpeeds,
        usage: ExpertStats = EVEN,
    ) -> None:
        self.is_exact = plan.workload.kernels == "exact"
        known = speeds_of_run(speeds, plan.workload)
        known = exact_speeds(known) if self.is_exact else known
        self.work = model_work(inventory)
        self.placed = placed_layers(plan, inventory, usage)
        self.head_home = _head_home(plan, inventory)
        self._parts = PartCosts(inventory.shape, plan.workload, known)
        self._missing = file_map(plan).missing_share
        self._alike = Counter(zip(self.work.layers, self.placed, strict=True))
        homes = [placed.home for placed in self.placed]
        pairs = zip(homes, [*homes[1:], self.head_home], strict=True)
        self._handovers = Counter((before, after) for before, after in pairs if before != after)
        self._further_graphs = max(_graphs(self.placed) - 1, 0)

    def decode(self, depth: int) -> dict[str, float]:
        """One token with so many before it in the cache."""
        seconds = self._blocks(Moment(depth))
        _add(seconds, self._parts.host())
        _add(seconds, self._parts.further_graphs(self._further_graphs))
        _add(seconds, self._head())
        return seconds

    def prompt(self, tokens: int, depth: int, ubatch: int) -> dict[str, float]:
        """All of a prompt, in micro-batches; logits of its last token alone."""
        seconds: dict[str, float] = {}
        for begin in range(0, tokens, ubatch):
            _add(seconds, self._blocks(Moment(depth + begin, min(ubatch, tokens - begin))))
            _add(seconds, self._parts.host())
        _add(seconds, self._head())
        return seconds

    def kind(self, work: str) -> str:
        """Of `calibration.KINDS`: "decode_mixed"."""
        on_gpus = [placed for placed in self.placed if placed.home != CPU]
        if self.is_exact or any(placed.falls_back for placed in self.placed):
            return f"{work}_reference"
        if not on_gpus:
            return f"{work}_cpu"
        mixed = len(on_gpus) < len(self.placed) or any(placed.in_ram for placed in on_gpus)
        return f"{work}_mixed" if mixed else f"{work}_gpu"

    def unmeasured_share(self) -> float:
        """Of a token's bytes, those in formats whose speed nobody measured."""
        read = [self.work.head]
        read += [part for at in self.work.layers for part in (at.attention, at.beside, at.chosen)]
        whole = sum(part.nbytes for part in read)
        return sum(part.unmeasured for part in read) / whole if whole else 0.0

    def waits_for_cores(self, threads: int) -> bool:
        """Whether arithmetic, not the RAM, holds the CPU up in the experts that it computes."""
        host = self._parts.speeds.host
        in_ram = [
            work.chosen.part(placed.in_ram)
            for work, placed in zip(self.work.layers, self.placed, strict=True)
        ]
        rate = host.read_gb_s * 1e9 * host.product_share * host.shard_gain
        return sum(part.core_s for part in in_ram) / threads > sum(p.nbytes for p in in_ram) / rate

    def _blocks(self, moment: Moment) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for (work, placed), count in self._alike.items():
            _add(seconds, self._parts.block(work, placed, moment), count)
            _add(seconds, self._disc(bytes_out_of_ram(work, placed, moment.tokens)), count)
        for (before, after), count in self._handovers.items():
            _add(seconds, self._parts.handover(before, after, moment.tokens), count)
        return seconds

    def _head(self) -> dict[str, float]:
        in_ram = self.work.head.nbytes if self.head_home == CPU else 0
        return {**self._parts.head(self.work.head, self.head_home), **self._disc(in_ram)}

    def _disc(self, nbytes: float) -> dict[str, float]:
        """What of these bytes the page cache lacks; the faults hold up the threads that read."""
        if not self._missing:
            return {}
        return {"disc": self._missing * nbytes / (self._parts.speeds.host.disk_gb_s * 1e9)}


def bytes_out_of_ram(work: LayerWork, placed: Placed, tokens: int) -> float:
    """Weights in RAM that a block reads for so many tokens, its experts chosen evenly."""
    dense = (work.attention + work.beside).nbytes if placed.home == CPU else placed.away_bytes
    experts = 1.0 if placed.home == CPU else placed.in_ram
    return dense + experts * work.routed.nbytes * work.touched(tokens)


def placed_layers(
    plan: PlacementPlan, inventory: ModelInventory, usage: ExpertStats
) -> tuple[Placed, ...]:
    """Where each block is, its routed experts counted by how often they are chosen."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    placed = plan.layers, plan.assignments, tensors
    fallen = {*reference_blocks(*placed), *scattered_blocks(*placed)}
    in_ram: defaultdict[int, float] = defaultdict(float)
    routed: defaultdict[int, float] = defaultdict(float)
    away: Counter[int] = Counter()
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        layer = tensor.layer
        if layer is None or layer >= len(plan.layers) or part.device == UNLOADED:
            continue
        if tensor.role is Role.ROUTED_EXPERT:
            first, last = part.experts or (0, tensor.experts - 1)
            chosen = tensor.nbytes * usage.share(layer, first, last, tensor.experts)
            routed[layer] += chosen
            in_ram[layer] += chosen if part.device == CPU else 0
        elif part.device == CPU != plan.layers[layer]:
            away[layer] += part.nbytes
    return tuple(
        Placed(
            home,
            in_ram[layer] / routed[layer] if routed[layer] else 0.0,
            layer in fallen,
            away[layer],
        )
        for layer, home in enumerate(plan.layers)
    )


def _graphs(placed: Sequence[Placed]) -> int:
    """Of a token: one for each run of blocks on one GPU."""
    graphs, before = 0, CPU
    for block in placed:
        home = CPU if block.falls_back else block.home
        graphs += home not in (CPU, before)
        before = home
    return graphs


def _head_home(plan: PlacementPlan, inventory: ModelInventory) -> str:
    role = Role.EMBEDDING if inventory.has_tied_head else Role.HEAD
    names = {tensor.name for tensor in inventory.tensors if tensor.role is role}
    return next((part.device for part in plan.assignments if part.tensor in names), CPU)


def _add(seconds: dict[str, float], more: Mapping[str, float], times: int = 1) -> None:
    for part, value in more.items():
        seconds[part] = seconds.get(part, 0.0) + times * value
