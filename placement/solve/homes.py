"""Where each block and the head live, and which experts fill what is left of the GPUs.

    CPU: blk.0 .. s-1 | CUDA0: blk.s .. a | CUDA1: blk.a+1 .. last, head

The first blocks stay on the CPU, as with llama.cpp's -ngl, so that one hidden state crosses once.
A block all of whose attention tensors are moved by rules lives where they went; one whose routed
experts are, beside them where that is sooner done. The rest is solved for the least predicted time
(`solver.py`); experts that no rule takes fill the GPUs (`fill.py`).
"""

import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from placement.errors import PlacementError
from placement.machines.machine import CPU
from placement.request import Request
from placement.solve.demand import Demand, demand_of
from placement.solve.fill import FALLEN, TICKS_PER_SECOND
from placement.solve.sites import Site
from placement.solve.solver import Solution, Solver
from placement.solve.ways import Run
from placement.tensor_names import device_ranges
from placement.units import format_seconds

NO_SPARE: Mapping[str, int] = {}
NO_ROOM = "the GPUs have no room for it"
# a tensor of it may well have room
NO_ROOM_FOR_BLOCK = "the GPUs have no room for the whole layer and those behind it"


@dataclass(frozen=True, slots=True)
class Homes:
    """A device and a reason for each trunk block and for the head.

    experts   (first, last) of the free experts of a block that are at its home
    notes     GPUs that are left out, one line each
    fitting   whether all this was found to fit
    """

    layers: tuple[str, ...]
    reasons: tuple[str, ...]
    head: str
    head_reason: str
    tied_head: bool
    experts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fitting: bool = True


@dataclass(frozen=True, slots=True)
class _Way:
    """The solver's answer to one demand.

    best    None where the GPUs hold no way at all
    limit   bytes of RAM
    """

    demand: Demand
    problem: Solver
    best: Solution | None
    limit: int

    @property
    def homes(self) -> dict[int, str]:
        """Of the blocks that it places on GPUs."""
        sites = self.problem.sites
        return {
            layer: sites[run.gpu].name
            for run in (self.best.runs if self.best else ())
            for layer in sites[run.gpu].order[run.first : run.end]
        }

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The lowest is the best: within the limit the fastest, beyond it the leanest."""
        if self.best is None:
            return True, sys.maxsize, 0
        beyond = self.best.ram_bytes > self.limit
        return beyond, self.best.ram_bytes if beyond else 0, self.best.ticks


def choose_homes(
    request: Request, spare: Mapping[str, int] = NO_SPARE, *, lean: bool = False
) -> Homes:
    """Homes of every block and of the head. Raises PlacementError for a negative gpu_layers.

    spare   bytes of a device to leave free
    lean    take the way that needs least RAM, be it slow: found in a fraction of the time
    """
    count, wanted = request.inventory.shape.layers, request.gpu_layers
    if wanted is not None and wanted < 0:
        raise PlacementError(
            f"-ngl {wanted} is negative",
            remedy=f"-ngl takes 0 to {count + 1}: {count} blocks and the head; or leave it out",
        )
    demand = demand_of(request)
    if not request.machine.gpus:
        return _named(request, demand, {}, None, "there is no GPU")
    way = _way(request, demand, spare, lean=lean)
    beside = _beside_experts(request, way)
    if beside:
        other = _way(request, demand.with_beside(beside), spare, lean=lean)
        way = min(way, other, key=lambda way: way.rank)
    if way.best is None:
        return _by_shares(request, demand, way.problem.sites, _allowed(request, demand))
    return _solved(request, way, way.best)


def least_of_a_gpu(request: Request) -> tuple[int, int]:
    """(scratch, scratch with the smallest block): bytes without which a GPU can hold no block."""
    demand = demand_of(request)
    gpu = Site(request, demand, request.machine.gpus[0].name)
    scratch = gpu.least(head=False)
    return scratch, scratch + min((block.nbytes for block in demand.blocks), default=0)


def _way(request: Request, demand: Demand, spare: Mapping[str, int], *, lean: bool) -> _Way:
    names = [gpu.name for gpu in request.machine.gpus]
    starts, heads = _allowed(request, demand)
    limit = request.cpu_bytes - spare.get(CPU, 0)

    def solver(*, forced: bool) -> Solver:
        sites = [Site(request, demand, n, spare.get(n, 0), forced=forced) for n in names]
        return Solver(request, demand, sites, starts, heads)

    problem = solver(forced=lean)
    best = _shared(request, problem, limit) or problem.solve(0 if lean else None)
    if best is not None and best.ram_bytes > limit and not lean:
        problem = solver(forced=True)
        best = _shared(request, problem, limit) or _within(problem, limit)
    return _Way(demand, problem, best, 0 if lean else limit)


def _beside_experts(request: Request, way: _Way) -> dict[int, str]:
    """Blocks that may follow their routed experts to the GPU where rules put those: of -ngl's, and
    none with -ts, which says where each lives.
    """
    if request.shares is not None:
        return {}
    first = _first_on_gpus(request)
    return {
        layer: site.name for site in way.problem.sites for layer in site.with_ruled_experts(first)
    }


def _first_on_gpus(request: Request) -> int:
    """The first block that -ngl lets live on a GPU."""
    layers, wanted = request.inventory.shape.layers, request.gpu_layers
    return 0 if wanted is None else max(layers + 1 - wanted, 0)


def _within(problem: Solver, limit: int) -> Solution | None:
    """The fastest way that keeps the limit, looked for only where there is one."""
    least = problem.solve(0)
    return least if least is None or least.ram_bytes > limit else problem.solve(limit)


def _shared(request: Request, problem: Solver, limit: int) -> Solution | None:
    """By the shares asked for, None where there are none or their blocks have no room."""
    return None if request.shares is None else problem.shared(request.shares, limit)


def _allowed(request: Request, demand: Demand) -> tuple[list[int], list[bool]]:
    """How many of the free blocks may stay on the CPU, and where the head may be."""
    free = [n for n in range(len(demand.blocks)) if n not in demand.moved]
    if request.gpu_layers is not None:
        first = _first_on_gpus(request)
        return [sum(layer < first for layer in free)], [request.gpu_layers > 0]
    # a block that a rule binds to its GPU is never left out
    latest = min(demand.bound_gpu, default=len(demand.blocks))
    return list(range(sum(layer < latest for layer in free) + 1)), [True, False]


def _solved(request: Request, way: _Way, best: Solution) -> Homes:
    demand, problem, sites = way.demand, way.problem, way.problem.sites
    homes = way.homes
    experts: dict[int, tuple[int, int]] = {}
    runs = {run.gpu: run for run in best.runs}
    for gpu, site in enumerate(sites):
        run = runs.get(gpu, Run(gpu, 0, 0))
        experts |= site.filled(run.first, run.end, head=run.head).experts
    head = None if best.head is None else sites[best.head].name
    why = NO_ROOM
    if request.gpu_layers is not None:
        why = f"-ngl {request.gpu_layers} leaves it on the CPU"
    fits = best.ram_bytes <= request.cpu_bytes
    notes = _left_out(way, best) if request.shares is None and fits else ()
    if request.shares is not None and problem.shared(request.shares, request.cpu_bytes) is None:
        asked = ",".join(f"{share:g}" for share in request.shares)
        notes = (
            f"-ts {asked} is not obeyed: its blocks have no room; they are where they fit best",
        )
    fitting = fits and all(site.holds_rules for site in sites)
    return replace(_named(request, demand, homes, head, why, experts, notes), fitting=fitting)


def _left_out(way: _Way, best: Solution) -> tuple[str, ...]:
    """That GPUs could have blocks and would only slow the others down."""
    problem = way.problem
    used = {run.gpu for run in best.runs if run.end > run.first}
    idle = [g for g, site in enumerate(problem.sites) if g not in used and not site.pinned]
    for gpu in idle if used else ():
        shared = problem.solve(exactly={*used, gpu})
        if shared is None or shared.ticks <= best.ticks:
            continue
        slower = format_seconds((shared.ticks - best.ticks) / TICKS_PER_SECOND)
        names = [problem.sites[g].name for g in idle]
        what = "has no blocks" if len(names) == 1 else "have no blocks"
        return (
            f"{device_ranges(names)} {what}: with some on {problem.sites[gpu].name} each token"
            f" would take {slower} longer{_shared_out(way, best)}",
        )
    return ()


def _shared_out(way: _Way, best: Solution) -> str:
    """How to share the blocks out, but where -ts would part some from their ruled experts."""
    shares = [1] * len(way.problem.sites)
    even = None if way.demand.beside else way.problem.shared(shares, way.limit)
    if even is None or even.ticks >= best.ticks + FALLEN:
        return ""
    return f"; -ts {','.join(map(str, shares))} shares them out"


def _named(
    request: Request,
    demand: Demand,
    homes: Mapping[int, str],
    head: str | None,
    why: str,
    experts: Mapping[int, tuple[int, int]] | None = None,
    notes: tuple[str, ...] = (),
) -> Homes:
    layers, reasons = [], []
    for layer in range(request.inventory.shape.layers):
        home = demand.moved.get(layer, homes.get(layer, CPU))
        layers.append(home)
        if layer in demand.beside:
            reasons.append("where rules moved its routed experts")
        elif layer in demand.moved:
            reasons.append("where rules moved its attention")
        else:
            on_cpu = NO_ROOM_FOR_BLOCK if why == NO_ROOM else why
            reasons.append(on_cpu if home == CPU else "by layer over the GPUs")
    head_reason = f"on the CPU: {why}" if head is None else "where the last blocks are"
    tied = request.inventory.has_tied_head
    return Homes(
        tuple(layers), tuple(reasons), head or CPU, head_reason, tied, experts or {}, notes
    )


def _by_shares(
    request: Request, demand: Demand, sites: Sequence[Site], allowed: tuple[list[int], list[bool]]
) -> Homes:
    """Proportional to the GPUs' room, for the check of the budgets to report what is too much."""
    starts, heads = allowed
    order, start = sites[0].order, starts[-1]
    with_head = request.gpu_layers is not None and True in heads
    costs = [demand.blocks[layer].nbytes for layer in order[start:]]
    rooms = [max(site.room, 0) for site in sites]
    chosen = _proportional(costs, rooms if any(rooms) else [1] * len(rooms))
    names = [site.name for site in sites]
    homes = {layer: names[gpu] for layer, gpu in zip(order[start:], chosen, strict=True)}
    head = homes[max(homes)] if homes else names[-1]
    why = f"-ngl {request.gpu_layers} leaves it on the CPU"
    if request.gpu_layers is None:
        why = NO_ROOM
    return replace(_named(request, demand, homes, head if with_head else None, why), fitting=False)


def _proportional(costs: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """GPU index per item: the one in whose share of all room the item's middle falls."""
    ends = list(accumulate(rooms))
    chosen = []
    for end, cost in zip(accumulate(costs), costs, strict=True):
        # (end - cost/2) / all costs * all room, in whole numbers
        middle = (2 * end - cost) * ends[-1] // max(2 * sum(costs), 1)
        chosen.append(min(bisect_right(ends, middle), len(rooms) - 1))
    return chosen
