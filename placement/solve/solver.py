"""Contiguous runs of blocks over the GPUs, exact by dynamic programming.

    CPU: blk.0 .. s-1 | CUDA0: blk.s .. a | CUDA1: blk.a+1 .. last, head

    best[g][j] = least over i < j of  enter[g][i] + run(g, i, j)
    enter[g][i] = least over the CPU and GPUs before g of  best[d][i] + handover(d, g)

A GPU is taken to be no slower than the CPU, be it only that the model is small: who has one wants
it used, and `-ngl 0` says otherwise. GPUs keep the machine's order and any may be left out, where
it would only hand over once more. Blocks that rules moved are no part of a run; they cost where
they are, and their neighbours hand over to them. Equal times go to the even share of budgets. Where
RAM is short each state keeps pairs of time and RAM that no other one beats in both, at most as many
as `ways.MOST_LABELS`: on large models that may miss the very best.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from placement.cost.predict import Costs
from placement.machines.machine import CPU
from placement.request import Request
from placement.solve.demand import Demand
from placement.solve.fill import FALLEN, ticks
from placement.solve.home_scratch import host_scratch
from placement.solve.sites import Site
from placement.solve.ways import (
    Label,
    Run,
    States,
    Thin,
    by_time,
    fastest,
    front,
    is_fatter,
    leanest,
    shared_out,
    tables_of,
    then,
)
from placement.workload import cache_bytes


@dataclass(frozen=True, slots=True)
class Solution:
    """The best way that was found.

    runs        of all GPUs that have blocks to be placed, or the head, in order
    head        number of the head's GPU, None for the CPU
    ticks       of the whole model
    ram_bytes   at most
    """

    runs: tuple[Run, ...]
    head: int | None
    ticks: int
    ram_bytes: int


class Solver:
    """The problem of one request; asked several times with other limits.

    starts   numbers of free blocks that may stay on the CPU
    heads    where the head may be: on a GPU (True), on the CPU (False)
    """

    def __init__(
        self,
        request: Request,
        demand: Demand,
        sites: Sequence[Site],
        starts: Iterable[int],
        heads: Iterable[bool],
    ) -> None:
        self._request, self._demand, self.sites = request, demand, sites
        self.ram_budget = request.cpu_bytes
        self._order = sites[0].order
        self._starts, self._heads = frozenset(starts), frozenset(heads)
        assert request.costs is not None
        self._costs: Costs = request.costs
        self._names = [CPU, *(site.name for site in sites)]
        self._handovers: dict[tuple[str, str], int] = {}
        self._scratch: dict[tuple[bool, bool, bool], int] = {}
        self._tables = tables_of(sites)
        self._there_and_back = max(
            self._handover(CPU, name) + self._handover(name, CPU) for name in self._names
        )
        self._ram_base = _ram_base(request, demand)
        self._beside = {name: self._beside_moved(name) for name in self._names}

    def solve(
        self, ram_limit: int | None = None, exactly: Collection[int] | None = None
    ) -> Solution | None:
        """The fastest way, or None where no way is within the budgets of the GPUs.

        ram_limit   bytes; where no way keeps it, the one that needs least; 0 looks for that alone
        exactly     numbers of the GPUs that have blocks, each of them some; None: any
        """
        thin = fastest if ram_limit is None else front if ram_limit > 0 else leanest
        size = len(self._order)
        # (device that has the last of the first j blocks, 0: CPU; labels by j)
        states: States = [(0, self._on_cpu())]
        ends: list[Label] = []
        for gpu in range(len(self.sites)) if exactly is None else sorted(exactly):
            enter = [thin(self._entered(states, gpu, i)) for i in range(size + 1)]
            grown = self._grown(gpu, enter, thin)
            if exactly is None:
                states.append((gpu + 1, grown))
            else:
                states, ends = [(gpu + 1, grown)], []
            if True in self._heads:
                ends += self._with_head(gpu, enter)
        if False in self._heads:
            ends += self._head_on_cpu(states)
        return self._chosen(ends, ram_limit)

    def shared(self, shares: Sequence[float], ram_limit: int) -> Solution | None:
        """With as few blocks on the CPU as can be, each GPU its share of the others, by number."""
        size, on_cpu = len(self._order), self._on_cpu()
        for start in sorted(self._starts):
            runs = [
                Run(gpu, start + first, start + end)
                for gpu, (first, end) in enumerate(shared_out(size - start, shares))
                if end > first
            ]
            ends = list(self._along(on_cpu[start][0], runs)) if runs else []
            if ends:
                return self._chosen(ends, ram_limit)
        return None

    def _along(self, label: Label, runs: Sequence[Run]) -> Iterator[Label]:
        """With these runs, the head behind the last one or on the CPU; nothing without room."""
        device = 0
        for run in runs:
            table, beside = self._tables[run.gpu], self._beside[self._names[run.gpu + 1]]
            label = label.plus(self._boundary(device, run.gpu + 1, run.first))
            if run is runs[-1] and True in self._heads:
                enter: list[list[Label]] = [[] for _ in range(len(self._order) + 1)]
                enter[run.first] = [label]
                yield from self._with_head(run.gpu, enter)
            options = table.options[run.first]
            option = (
                options[run.end - run.first - 1] if run.end - run.first <= len(options) else None
            )
            if option is None:
                return
            extra = sum(beside[run.first : run.end]) - table.empty.ticks
            label = then(label, option, table.empty, extra, run)
            device = run.gpu + 1
        if False in self._heads:
            grown: list[list[Label]] = [[] for _ in range(len(self._order) + 1)]
            grown[-1] = [label]
            yield from self._head_on_cpu([(device, grown)])

    def _on_cpu(self) -> list[list[Label]]:
        """The first blocks on the CPU, none on a GPU."""
        empty = [table.empty for table in self._tables]
        base = [sum(o.ticks for o in empty), sum(o.ram_bytes for o in empty)]
        label = Label(base[0], 0, 0, base[1], None)
        states = []
        for j in range(len(self._order) + 1):
            states.append([label] if j in self._starts else [])
            if j < len(self._order):
                layer = self._order[j]
                block = self._demand.blocks[layer]
                cost = max(self._cpu_ticks(layer), min(site.ticks[layer] for site in self.sites))
                cost += self._beside[CPU][j]
                label = label.plus(cost, block.nbytes + block.open_bytes, blocks=1)
        return states

    def _entered(self, states: States, gpu: int, i: int) -> list[Label]:
        """Ways to place the first i blocks, handed over to the GPU."""
        labels: list[Label] = []
        for device, ways in states:
            if ways[i]:
                cost = self._boundary(device, gpu + 1, i)
                labels += [label.plus(cost) for label in ways[i]] if cost else ways[i]
        return labels

    def _grown(self, gpu: int, enter: list[list[Label]], thin: Thin) -> list[list[Label]]:
        """Those that end with a run on the GPU."""
        table, beside = self._tables[gpu], self._beside[self._names[gpu + 1]]
        grown: list[list[Label]] = [[] for _ in range(len(self._order) + 1)]
        for i, labels in enumerate(enter[:-1]):
            extra = -table.empty.ticks
            for j, option in enumerate(table.options[i] if labels else (), i + 1):
                extra += beside[j - 1]
                if option is None:
                    continue
                there, run = grown[j], Run(gpu, i, j)
                cost, in_ram = extra + option.ticks, option.ram_bytes - table.empty.ram_bytes
                for label in labels:
                    # most ways are slower than one that is known: not worth making
                    if thin is fastest and there and label.ticks + cost > there[-1].ticks:
                        continue
                    if thin is leanest and is_fatter(label, in_ram, there):
                        continue
                    there.append(then(label, option, table.empty, extra, run))
        return [thin(labels) for labels in grown]

    def _with_head(self, gpu: int, enter: list[list[Label]]) -> Iterator[Label]:
        table, size = self._tables[gpu], len(self._order)
        site = self.sites[gpu]
        last = self._demand.moved.get(len(self._demand.blocks) - 1)
        alone = bool(site.pinned) or self._request.gpu_layers is not None
        for i, labels in enumerate(enter):
            option = table.with_head[i] if labels and (i < size or alone) else None
            if option is None:
                continue
            extra = sum(self._beside[site.name][i:]) - table.empty.ticks
            if i < size and last is not None:
                extra += self._handover(last, site.name)
            run = Run(gpu, i, size, head=True)
            for label in labels:
                yield then(label, option, table.empty, extra, run)

    def _head_on_cpu(self, states: States) -> Iterator[Label]:
        goal = self._request.optimize
        heads = [ticks(self._costs.head(name, goal)) for name in self._names]
        for device, ways in states:
            # the GPU of the last blocks, or any, is no slower; equal times go to it
            cost = max(heads[0], 1 + (heads[device] if device else min(heads[1:])))
            over = self._boundary(device, 0, len(self._order))
            for label in ways[-1]:
                idle = label.runs is None and True in self._heads
                extra = over + (self._there_and_back if idle else 0)
                yield label.plus(cost + extra, self._demand.head_bytes)

    def _cpu_ticks(self, layer: int) -> int:
        goal, block = self._request.optimize, self._demand.blocks[layer]
        cost = ticks(self._costs.block(layer, CPU, goal)) + FALLEN * block.is_ruled_onto_gpus
        experts_s = self._costs.experts(layer, CPU, 1.0, goal) if block.experts else 0.0
        return cost + ticks(experts_s)

    def _chosen(self, ends: list[Label], ram_limit: int | None) -> Solution | None:
        found = [self._solution(label) for label in sorted(ends, key=by_time)]
        kept = [way for way in found if ram_limit is None or way.ram_bytes <= ram_limit]
        if kept:
            return kept[0]
        return min(found, key=lambda way: way.ram_bytes, default=None)

    def _solution(self, label: Label) -> Solution:
        runs, link = [], label.runs
        while link is not None:
            run, link = link
            runs.append(run)
        runs.reverse()
        head = runs[-1].gpu if runs and runs[-1].head else None
        pinned = CPU in self._demand.moved.values()
        experts = label.ram_bytes > (self._demand.head_bytes if head is None else 0)
        scratch = self._host_scratch(label.on_cpu > 0 or pinned, head is None, experts)
        spent = label.ticks - (self._there_and_back if not runs and True in self._heads else 0)
        return Solution(tuple(runs), head, spent, label.ram_bytes + self._ram_base + scratch)

    def _host_scratch(self, blocks: bool, head: bool, experts: bool) -> int:
        key = (blocks, head, experts)
        if key not in self._scratch:
            self._scratch[key] = host_scratch(
                self._request, self._demand, blocks=blocks, head=head, experts=experts
            )
        return self._scratch[key]

    def _boundary(self, before: int, after: int, i: int) -> int:
        """Ticks between devices where order[i], or the head, follows order[i - 1]."""
        size, last = len(self._order), len(self._demand.blocks) - 1
        if i == size and last in self._demand.moved:
            return self._handover(self._demand.moved[last], self._names[after])
        if i == 0 or (i < size and self._order[i - 1] + 1 != self._order[i]):
            return 0
        return self._handover(self._names[before], self._names[after])

    def _beside_moved(self, name: str) -> list[int]:
        """Per free block: handovers from and to neighbours that rules moved."""
        moved, cost = self._demand.moved, []
        for layer in self._order:
            before, after = moved.get(layer - 1), moved.get(layer + 1)
            cost.append(
                (self._handover(before, name) if before else 0)
                + (self._handover(name, after) if after else 0)
            )
        return cost

    def _handover(self, before: str, after: str) -> int:
        if before == after:
            return 0
        if (before, after) not in self._handovers:
            seconds = self._costs.handover(before, after, self._request.optimize)
            self._handovers[before, after] = ticks(seconds)
        return self._handovers[before, after]


def _ram_base(request: Request, demand: Demand) -> int:
    """Bytes in RAM wherever free blocks live: what rules and kinds put there, blocks that rules
    moved there, the cache that is kept there. Scratch is apart.
    """
    moved = [demand.blocks[layer] for layer, home in demand.moved.items() if home == CPU]
    nbytes = demand.held[CPU].nbytes + sum(block.nbytes + block.open_bytes for block in moved)
    if request.workload.cache_in_ram:
        nbytes += cache_bytes(request.inventory.shape, request.workload, len(demand.blocks))
    return nbytes
