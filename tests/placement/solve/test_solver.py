"""The solver against every contiguous assignment there is, on random models and machines."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from placement.inventory import ModelInventory
from placement.machines.machine import CPU, Machine
from placement.memory.budgets import device_budgets
from placement.request import Request
from placement.rules import parse_rules
from placement.solve.demand import demand_of
from placement.solve.draft import draft
from placement.solve.fill import FALLEN, ticks
from placement.solve.home_scratch import host_scratch
from placement.solve.sites import Site
from placement.solve.solver import Solver
from placement.solve.trials import overfull
from placement.workload import Workload
from tests.placement.models import GIB, TINY, machine, model
from tests.placement.solve.fitting import needs_fit

LOAD = Workload(256, 16, attention_work_bytes=1 << 18)


class DrawnCosts:
    """Seconds without any sense but that a GPU is the faster home."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self._known = draw, {}

    def _seconds(self, *key: object, most: float = 1e-3) -> float:
        if key not in self._known:
            self._known[key] = self._draw.uniform(0.05, 1.0) * most
        return self._known[key]

    def block(self, layer: int, home: str, goal: str) -> float:
        slower = 1e-3 if home == CPU else 0.0
        return self._seconds("block", layer, home) + slower

    def experts(self, layer: int, home: str, in_ram: float, goal: str) -> float:
        in_host = self._seconds("host", layer, most=2e-3)
        if home == CPU:
            return in_host + 1e-4
        crossing = 1e-4 if in_ram else 0.0
        return in_ram * in_host + (1 - in_ram) * 0.1 * in_host + crossing

    def head(self, home: str, goal: str) -> float:
        return self._seconds("head", home) + (1e-3 if home == CPU else 0.0)

    def handover(self, before: str, after: str, goal: str) -> float:
        return 0.0 if before == after else self._seconds("handover", before, after, most=1e-5)


def drawn(seed: int, *rules: str) -> Request:
    draw = random.Random(seed)
    shape = replace(TINY, layers=draw.randint(3, 7))
    inventory = model(shape, "drawn", weights="Q8_0")
    tensors = (
        replace(t, nbytes=t.nbytes * draw.randint(1, 3)) if t.layer is not None else t
        for t in inventory.tensors
    )
    inventory = replace(inventory, tensors=tuple(tensors))
    gpus = [draw.randint(380, 900) << 10 for _ in range(draw.randint(2, 3))]
    where = machine(*gpus)
    return asked(inventory, where, rules, DrawnCosts(draw))


def asked(
    inventory: ModelInventory, where: Machine, rules: tuple[str, ...], costs: DrawnCosts
) -> Request:
    parsed = parse_rules(rules, where.device_names)
    budgets = device_budgets(where, None)
    return Request(inventory, where, parsed, LOAD, budgets, costs=costs)


def contiguous(layers: int, gpus: int) -> Iterator[list[int]]:
    """Device of each block, 0 the CPU: never one before that of the block before."""

    def longer(homes: list[int]) -> Iterator[list[int]]:
        if len(homes) == layers:
            yield homes
            return
        for device in range(homes[-1] if homes else 0, gpus + 1):
            yield from longer([*homes, device])

    return longer([])


def seconds_of(request: Request, homes: list[str], head: str) -> int:
    costs = request.costs
    total = ticks(costs.head(head, "decode"))
    for layer, home in enumerate(homes):
        has_experts = layer >= request.inventory.shape.dense_layers
        total += ticks(costs.block(layer, home, "decode"))
        total += ticks(costs.experts(layer, home, 1.0, "decode")) if has_experts else 0
    return total + sum(ticks(costs.handover(a, b, "decode")) for a, b in pairwise([*homes, head]))


def places_of_the_head(homes: list[str]) -> set[str]:
    return {homes[-1], CPU}


@pytest.mark.parametrize("seed", range(40))
def test_no_contiguous_assignment_is_faster(seed: int) -> None:
    request = drawn(seed, "exps=CPU")
    names, made = request.machine.device_names, draft(request)
    best = min(
        seconds_of(request, homes, head)
        for numbers in contiguous(request.inventory.shape.layers, len(names) - 1)
        for homes in [[names[number] for number in numbers]]
        for head in places_of_the_head(homes)
        if needs_fit(request, made.assignments, homes, head)
    )
    (head,) = (part.device for part in made.assignments if part.tensor == "output.weight")
    assert not overfull(made)
    assert seconds_of(request, list(made.layers), head) == best


@pytest.mark.parametrize("seed", range(40))
def test_no_contiguous_assignment_is_faster_with_what_is_left_filled(seed: int) -> None:
    request = drawn(seed)
    solver, sites = problem(request, forced=False)
    assert solver.solve().ticks == min(total for total, _ in every_way(request, sites))
    assert not overfull(draft(request))


@pytest.mark.parametrize("seed", range(20))
def test_of_ways_that_keep_the_ram_s_budget_the_fastest_is_taken(seed: int) -> None:
    request = drawn(seed)
    solver, sites = problem(request, forced=True)
    free, least = solver.solve(), solver.solve(ram_limit=0)
    ways = list(every_way(request, sites))
    assert least.ram_bytes == min(nbytes for _, nbytes in ways)
    for part in range(5):
        limit = least.ram_bytes + (free.ram_bytes - least.ram_bytes) * part // 4
        fastest = min(total for total, nbytes in ways if nbytes <= max(limit, least.ram_bytes))
        assert solver.solve(ram_limit=limit).ticks == fastest


def problem(request: Request, *, forced: bool) -> tuple[Solver, list[Site]]:
    demand = demand_of(request)
    sites = [Site(request, demand, gpu.name, forced=forced) for gpu in request.machine.gpus]
    starts = range(len(demand.blocks) + 1)
    return Solver(request, demand, sites, starts, [True, False]), sites


def every_way(request: Request, sites: list[Site]) -> Iterator[tuple[int, int]]:
    """(ticks, bytes in RAM) of all contiguous assignments that fit the GPUs."""
    for numbers in contiguous(request.inventory.shape.layers, len(sites)):
        for head in {numbers[-1], 0}:
            way = totals_of(request, sites, numbers, head)
            if way is not None:
                yield way


def totals_of(
    request: Request, sites: list[Site], numbers: list[int], head: int
) -> tuple[int, int] | None:
    costs, names, demand = request.costs, request.machine.device_names, demand_of(request)
    total = ticks(costs.head(CPU, "decode")) if head == 0 else 0
    opened = 0  # bytes of experts in RAM that no rule put there
    nbytes = demand.held[CPU].nbytes + (demand.head_bytes if head == 0 else 0)
    for layer in range(numbers.count(0)):
        total += ticks(costs.block(layer, CPU, "decode"))
        nbytes += demand.blocks[layer].nbytes
        opened += demand.blocks[layer].open_bytes
        if layer >= request.inventory.shape.dense_layers:
            total += ticks(costs.experts(layer, CPU, 1.0, "decode"))
    for gpu in set(numbers) - {0}:
        first = numbers.index(gpu)
        run = sites[gpu - 1].run(first, first + numbers.count(gpu), head=head == gpu)
        if run is None:
            return None
        total += run.ticks
        opened += run.ram_bytes
    on_cpu, experts = 0 in numbers, opened > 0
    nbytes += opened + host_scratch(request, demand, blocks=on_cpu, head=head == 0, experts=experts)
    homes = [names[number] for number in (*numbers, head)]
    total += sum(ticks(costs.handover(a, b, "decode")) for a, b in pairwise(homes))
    return total, nbytes


def test_equal_gpus_that_are_both_needed_share_evenly() -> None:
    draw = random.Random(1)

    class Equal(DrawnCosts):
        def _seconds(self, *key: object, most: float = 1e-3) -> float:
            return most

    inventory = model(replace(TINY, layers=6, dense_layers=0), "even", weights="Q8_0")
    where = machine(700 << 10, 700 << 10)
    made = draft(asked(inventory, where, ("exps=CPU",), Equal(draw)))
    first, second = (use.total_bytes for use in made.devices[1:])
    assert made.layers == ("CUDA0",) * 4 + ("CUDA1",) * 2  # the head is on the second one
    assert abs(first - second) < max(first, second) // 10


@pytest.mark.parametrize(
    ("rules", "falls"),
    [
        (("exps=CPU",), []),
        ((r"blk\.2\..*_exps=CUDA0", "exps=CPU"), [2]),
        ((r"blk\.2\..*_exps#0-1=CUDA0", "exps=CPU"), [2]),
        ((r"blk\.1\.attn_output=CUDA0", "exps=CPU"), [1]),
        (("exps=GPU",), []),
    ],
)
def test_a_block_in_ram_falls_back_where_rules_put_some_of_it_on_a_gpu(
    rules: tuple[str, ...], falls: list[int]
) -> None:
    request = asked(
        model(TINY, "ruled", weights="Q8_0"), machine(GIB), rules, DrawnCosts(random.Random(1))
    )
    demand = demand_of(request)
    assert [n for n, its in enumerate(demand.blocks) if its.is_ruled_onto_gpus] == falls
    solver = Solver(request, demand, [Site(request, demand, "CUDA0", 0)], [0], [True])
    spent = [solver._cpu_ticks(layer) for layer in range(len(demand.blocks))]
    assert [n for n, its in enumerate(spent) if its >= FALLEN] == falls
