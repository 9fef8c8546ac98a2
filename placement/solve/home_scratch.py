"""Scratch and overheads of a GPU before its blocks are known: never less than the finished plan
needs (`memory/needs.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from placement.machines.machine import CPU
from placement.memory.gpu_scratch import gpu_bytes
from placement.memory.native_scratch import native_bytes
from placement.memory.needs import workload_of_host
from placement.memory.overheads import Held, gpu_overheads, most_host_overheads, readers_of
from placement.request import Request
from placement.rules import OWN_GPU
from placement.solve.demand import BlockDemand, Demand
from placement.workload import Hosted, compute_bytes


@dataclass(slots=True)
class Lodgers:
    """Blocks at one home, as far as its scratch depends on them.

    away, away_bytes   most experts of one in RAM, and the largest such expert's bytes, while open
                       experts are in RAM
    ruled_away, ...    the same of experts that rules put there
    """

    count: int = 0
    matrix_values: int = 0
    expert_values: int = 0
    routed: bool = False
    away: int = 0
    away_bytes: int = 0
    ruled_away: int = 0
    ruled_away_bytes: int = 0
    plain: bool = True
    held_layers: int = 0

    def add(self, layer: int, block: BlockDemand, name: str, held: set[int]) -> None:
        """One more block on the device `name`, which holds something of the blocks `held`."""
        self.count += 1
        self.held_layers += layer in held
        self.matrix_values = max(self.matrix_values, block.matrix_values)
        if block.experts:
            self._add_experts(block, name)
        if not block.ruled_devices <= {name}:
            self.plain = False

    def _add_experts(self, block: BlockDemand, name: str) -> None:
        here = {name, OWN_GPU}
        self.expert_values = max(self.expert_values, block.expert_values)
        ruled_pieces, pieces = 0, 0
        for first, last, device in block.ruled_experts:
            if device in here:
                self.routed = True
            elif device == CPU:
                ruled_pieces += 1
                self.ruled_away = max(self.ruled_away, last + 1 - first)
                self.away = max(self.away, last + 1 - first)
            else:
                self.plain = False
        if block.open_bytes:
            pieces = 1
            self.away = block.experts
        self.ruled_away_bytes = max(self.ruled_away_bytes, ruled_pieces * block.expert_bytes)
        pieces = (pieces + ruled_pieces) * block.expert_bytes
        if block.odd:  # its matrices differ
            pieces = block.pieces * block.expert_bytes
            self.away = max(self.away, block.experts)
        self.away_bytes = max(self.away_bytes, pieces)
        if block.odd or (ruled_pieces and block.open_bytes):
            self.plain = False


@dataclass(slots=True)
class HomeScratch:
    """What one GPU needs beside weights and cache for a set of blocks, and what rules put there."""

    request: Request
    demand: Demand
    name: str
    known: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def of(self, lodgers: Lodgers, *, head: bool, filled: bool, all_here: bool = False) -> int:
        """filled     open experts are here
        all_here   all of them
        """
        held, its = self.demand.held[self.name], lodgers
        key = (
            its.count > 0,
            its.matrix_values,
            its.expert_values if filled or its.routed else 0,
            filled or its.routed,
            its.ruled_away if all_here else its.away,
            its.ruled_away_bytes if all_here else its.away_bytes,
            its.plain and its.held_layers == len(held.layers),
            head,
        )
        if key not in self.known:
            self.known[key] = self._bytes(*key)
        return self.known[key]

    def _bytes(
        self,
        homes: bool,
        matrix_values: int,
        expert_values: int,
        routed: bool,
        away: int,
        away_bytes: int,
        plain: bool,
        head: bool,
    ) -> int:
        held, request = self.demand.held[self.name], self.request
        head_values = self.demand.head_values if head else 0
        hosted = Hosted(
            layers=int(homes or held.layer_work),
            routed_experts=routed or held.routed_experts,
            head=head or held.head,
            embedding=held.nbytes > 0,
            matrix_values=max(matrix_values, expert_values, held.matrix_values, head_values),
            homes=int(homes),
            away_experts=away,
            away_expert_bytes=away_bytes,
            plain=plain,
        )
        scratch = gpu_bytes(request.inventory.shape, request.workload, hosted)
        device = request.machine.device(self.name)
        assert device is not None
        gpu = Held(device, held.nbytes, scratch, hosted)
        beside = gpu_overheads(gpu, request.workload, readers_of(request.machine))
        return scratch + sum(nbytes for _, nbytes in beside)


def lodgers_of(layers: Iterable[int], demand: Demand, name: str) -> Lodgers:
    """These blocks on the device `name`."""
    lodgers, held = Lodgers(), demand.held[name].layers if name in demand.held else set()
    for layer in layers:
        lodgers.add(layer, demand.blocks[layer], name, held)
    return lodgers


def _all_plain(request: Request, demand: Demand) -> bool:
    """Whether every block runs by its GPU's kernels, whichever GPU it comes to."""
    held = any(demand.held[gpu.name].layers for gpu in request.machine.gpus)
    lodgers = lodgers_of(range(len(demand.blocks)), demand, OWN_GPU)
    return lodgers.plain and not held


def host_scratch(
    request: Request, demand: Demand, *, blocks: bool, head: bool, experts: bool
) -> int:
    """Of the CPU, at most, with what the program and the drivers take.

    blocks    whether any are at home there
    experts   whether any that no rule put there are
    """
    held = demand.held[CPU]
    routed = experts or held.routed_experts
    values = [held.matrix_values, demand.head_values if head else 0]
    values += [
        max(block.matrix_values * blocks, block.expert_values * routed) for block in demand.blocks
    ]
    hosted = Hosted(
        layers=int(blocks or held.layer_work),
        routed_experts=routed,
        head=head or held.head,
        embedding=True,
        matrix_values=max(values),
    )
    shape, workload = request.inventory.shape, request.workload
    load = workload_of_host(
        request.inventory, workload, blocks=hosted.layers > 0, plain=_all_plain(request, demand)
    )
    scratch = compute_bytes(shape, load, hosted)
    if hosted.layers or routed:
        scratch = max(scratch, native_bytes(shape, load, attention=hosted.layers > 0))
    return scratch + most_host_overheads(request.machine, shape, workload, request.cpu_bytes)
