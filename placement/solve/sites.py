"""One GPU as the solver sees it: what any run of blocks at home there would take and cost.

room   = budget - bytes that rules put there - blocks - scratch
ticks  = blocks + their experts in RAM - what experts save that fill the room
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from placement.cost.predict import Costs
from placement.request import Request
from placement.rules import OWN_GPU
from placement.solve.demand import Demand
from placement.solve.fill import FALLEN, Filled, Shelf, ticks
from placement.solve.home_scratch import HomeScratch, Lodgers, lodgers_of


@dataclass(frozen=True, slots=True)
class Option:
    """One run of blocks at one home.

    ticks       of its blocks and their experts
    unevenness  used bytes * used bytes / budget: least in sum where shares of budgets are even
    ram_bytes   its open experts that stay in RAM
    """

    ticks: int
    unevenness: int
    ram_bytes: int


class Site:
    """A GPU.

    ticks    of each block here, with the experts that no rule puts here in RAM
    order    layers whose homes are to be found, in order
    pinned   layers that rules have moved here
    spare    bytes to leave free
    forced   also experts that save no time, for a host whose RAM is short
    """

    def __init__(
        self, request: Request, demand: Demand, name: str, spare: int = 0, *, forced: bool = False
    ) -> None:
        moved = demand.moved
        self.name, self._request = name, request
        self.order = [n for n in range(len(demand.blocks)) if n not in moved]
        self.pinned = [layer for layer, home in moved.items() if home == name]
        self._demand, self._costs, self._goal = demand, _costs(request), request.optimize
        self._scratch = HomeScratch(request, demand, name)
        self._budget = request.budgets[name] - spare - demand.held[name].nbytes
        self.shelf = Shelf(
            demand.blocks, self.order, request.expert_stats, self._seconds, forced=forced
        )
        self.ticks = [self._block_ticks(layer) for layer in range(len(demand.blocks))]
        blocks = demand.blocks
        opened = [blocks[layer].open_bytes for layer in self.order]
        fillable = [self.shelf.most(layer) for layer in self.order]
        self._sums = (
            list(accumulate(opened, initial=0)),
            list(accumulate(fillable, initial=0)),
        )

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for GPUs on which every run takes and costs the same."""
        named = {rule.device for rule in self._request.rules}
        head = ticks(self._costs.head(self.name, self._goal))
        name = self.name if self.name in named else ""
        return name, self._budget, head, tuple(self.ticks), self.shelf.key

    @property
    def room(self) -> int:
        """Bytes for blocks, where all of them decide the scratch."""
        return self._budget - self.least(head=False)

    @property
    def holds_rules(self) -> bool:
        """Whether there is room for what rules put here."""
        return self.run(0, 0, head=False) is not None

    def with_ruled_experts(self, first: int) -> list[int]:
        """Free blocks from `first` on whose routed experts rules put here by name, as far as there
        is room for the blocks beside them, the last ones: elsewhere the reference computes them.
        """
        layers = [
            layer
            for layer in self.order
            if layer >= first
            and any(d == self.name for _, _, d in self._demand.blocks[layer].ruled_experts)
            and lodgers_of([layer], self._demand, self.name).plain
        ]
        while layers and not self._takes(layers):
            layers = layers[1:]
        return layers

    def runs(self, first: int) -> Iterator[Option | None]:
        """Of order[first:first+1], order[first:first+2], ...; None from where there is no room."""
        lodgers, nbytes, cost = self._start()
        held = self._demand.held[self.name].layers
        for end in range(first, len(self.order)):
            layer = self.order[end]
            block = self._demand.blocks[layer]
            lodgers.add(layer, block, self.name, held)
            nbytes += block.nbytes
            cost += self.ticks[layer]
            if nbytes > self._budget:
                return
            yield self._option((first, end + 1), lodgers, nbytes, cost, head=False)

    def run(self, first: int, end: int, *, head: bool) -> Option | None:
        """Of order[first:end], with the head or without."""
        lodgers, nbytes, cost = self._start(self.order[first:end])
        if head:
            nbytes += self._demand.head_bytes
            cost += ticks(self._costs.head(self.name, self._goal))
        return self._option((first, end), lodgers, nbytes, cost, head=head)

    def filled(self, first: int, end: int, *, head: bool) -> Filled:
        """The experts that a run has room for."""
        lodgers, nbytes, _ = self._start(self.order[first:end])
        nbytes += self._demand.head_bytes if head else 0
        layers = [*self.order[first:end], *self.pinned]
        room = self._room(lodgers, nbytes, (first, end), head=head)
        return self.shelf.filled(layers, room) if room > 0 else Filled(0, 0, {})

    def least(self, *, head: bool, filled: bool = False) -> int:
        """Scratch without which no block can be at home here."""
        lodgers = lodgers_of(self.order, self._demand, self.name)
        return self._scratch.of(lodgers, head=head, filled=filled)

    def _takes(self, layers: Sequence[int]) -> bool:
        lodgers, nbytes, _ = self._start(layers)
        return nbytes + self._scratch.of(lodgers, head=False, filled=False) <= self._budget

    def _start(self, layers: Sequence[int] = ()) -> tuple[Lodgers, int, int]:
        here = [*self.pinned, *layers]
        blocks = self._demand.blocks
        lodgers = lodgers_of(here, self._demand, self.name)
        return lodgers, sum(blocks[n].nbytes for n in here), sum(self.ticks[n] for n in here)

    def _option(
        self, run: tuple[int, int], lodgers: Lodgers, nbytes: int, cost: int, *, head: bool
    ) -> Option | None:
        bare = self._scratch.of(lodgers, head=head, filled=False)
        if nbytes + bare > self._budget:
            return None
        room = self._room(lodgers, nbytes, run, head=head)
        gain, taken = self.shelf.gain(run, self.pinned, room) if room > 0 else (0, 0)
        used = nbytes + bare + taken
        unevenness = used * used // max(self._budget, 1)
        return Option(cost - gain, unevenness, self._open(run) - taken)

    def _room(self, lodgers: Lodgers, nbytes: int, run: tuple[int, int], *, head: bool) -> int:
        """Bytes for experts, or for all of them where those alone take no scratch for others."""
        room = self._budget - nbytes - self._scratch.of(lodgers, head=head, filled=True)
        opened = self._open(run)
        if room < opened and opened == self._fillable(run):
            scratch = self._scratch.of(lodgers, head=head, filled=True, all_here=True)
            if self._budget - nbytes - scratch >= opened:
                return self._budget - nbytes - scratch
        return room

    def _open(self, run: tuple[int, int]) -> int:
        blocks = self._demand.blocks
        pinned = sum(blocks[layer].open_bytes for layer in self.pinned)
        return pinned + self._sums[0][run[1]] - self._sums[0][run[0]]

    def _fillable(self, run: tuple[int, int]) -> int:
        pinned = sum(self.shelf.most(layer) for layer in self.pinned)
        return pinned + self._sums[1][run[1]] - self._sums[1][run[0]]

    def _block_ticks(self, layer: int) -> int:
        """With the experts that no rule puts here in RAM."""
        block = self._demand.blocks[layer]
        cost = ticks(self._costs.block(layer, self.name, self._goal))
        if not lodgers_of([layer], self._demand, self.name).plain:
            cost += FALLEN
        if block.experts:
            away = self.shelf.away_share(layer, (self.name, OWN_GPU))
            cost += ticks(self._seconds(layer, away))
        return cost

    def _seconds(self, layer: int, in_ram: float) -> float:
        return self._costs.experts(layer, self.name, in_ram, self._goal)


def _costs(request: Request) -> Costs:
    return request.costs or Costs(request.inventory, request.machine, request.workload)
