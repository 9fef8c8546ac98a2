"""A thousand random machines, rules and workloads: a plan within every budget that obeys every rule
to the letter, or an error whose conflict is true and whose remedies help.
"""

import re
from dataclasses import replace

from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from placement.errors import DoesNotFit, RuleError
from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, UNLOADED, Machine
from placement.memory.needs import device_needs
from placement.memory.reference_blocks import reference_blocks
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.planner import plan
from placement.request import GOALS, Request
from placement.rules import OWN_GPU, Rule, cpu_moe_rule, n_cpu_moe_rules, parse_rules
from placement.solve.draft import draft
from placement.solve.remedies import single_changes
from placement.solve.trials import overfull
from placement.workload import Workload
from tests.placement.models import MIB, machine, tiny

SPREAD = 5000  # KiB

devices = st.sampled_from(["CPU", "CPU", "CUDA0", "CUDA1", "GPU"])
whole = st.sampled_from(["exps", "up_exps", r"blk\.3\.", "attn", "ffn", ".", "output", "dead"])
ranges = st.sampled_from(
    [*("exps#0-3", "exps#4-7", "up_exps#2", r"blk\.[12]\..*_exps#1-6") * 4, "exps#4-8", "attn#0"]
)
rules_drawn = st.lists(
    st.builds("{}={}".format, st.one_of(whole, whole, ranges), devices),
    max_size=3,
)
workloads = st.builds(
    Workload,
    context_tokens=st.integers(1, 2000),
    ubatch_tokens=st.integers(1, 64),
    cache_format=st.sampled_from(["f16", "q8_0", "f32"]),
    attention_work_bytes=st.sampled_from([1, MIB // 4, MIB]),
    threads=st.integers(1, 3),
    cache_in_ram=st.booleans(),
    kernels=st.sampled_from(["fast", "exact"]),
)
cases = st.fixed_dictionaries(
    {
        "texts": rules_drawn,
        "moe": st.sampled_from([None, None, None, "all", 0, 2, 4]),
        "gpus": st.lists(st.integers(1, SPREAD), min_size=2, max_size=3),
        "ram": st.sampled_from([SPREAD, SPREAD * 4, SPREAD * 20]) | st.integers(1, SPREAD * 4),
        "load": workloads,
        "gpu_layers": st.none() | st.none() | st.integers(0, 6),
        "tied": st.booleans(),
        "goal": st.sampled_from(GOALS),
    }
)


@seed(5)
@settings(
    max_examples=1000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(case=cases)
def test_a_plan_that_fits_or_a_conflict_that_is_true(case: dict) -> None:
    inventory = tiny(tied=case["tied"], mtp=True)
    where = machine(*(size << 10 for size in case["gpus"]), ram=case["ram"] << 10)
    rules = (*parse_rules(case["texts"], where.device_names), *moe_rules(case["moe"]))
    options = {"gpu_layers": case["gpu_layers"], "optimize": case["goal"]}
    try:
        made = plan(inventory, where, rules, case["load"], **options)
    except RuleError:
        event("a rule that cannot be obeyed")
        assert any("attn#" in text or "-8" in text for text in case["texts"])
        return
    except DoesNotFit as error:
        event("does not fit")
        budgets = {device.name: device.free_bytes for device in where.devices}
        request = Request(inventory, where, rules, case["load"], budgets, **options)
        check_error(request, error)
        return
    event("fits")
    check_plan(made, inventory, where)
    check_bytes(made, inventory, where)
    check_rules(made, inventory)
    check_layers(made, case["gpu_layers"])
    check_fill(made, inventory)


def moe_rules(moe: str | int | None) -> tuple[Rule, ...]:
    if moe is None:
        return ()
    return (cpu_moe_rule(),) if moe == "all" else n_cpu_moe_rules(int(moe), 4, has_gpu=True)


def check_bytes(made: PlacementPlan, inventory: ModelInventory, where: Machine) -> None:
    names = where.device_names
    needs = device_needs(inventory, made.workload, made.layers, made.assignments, names, where)
    for use in made.devices:
        need = needs[use.name]
        total = need.weights_bytes + need.cache_bytes + need.compute_bytes + need.other_bytes
        assert total <= use.total_bytes <= where.device(use.name).free_bytes


def check_rules(made: PlacementPlan, inventory: ModelInventory) -> None:
    """Every expert of every tensor is where its first matching rule wants it."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    for part in made.assignments:
        tensor = tensors[part.tensor]
        if part.device == UNLOADED:
            continue
        first, last = part.experts or (0, max(tensor.experts, 1) - 1)
        matching = [index for index, rule in enumerate(made.rules) if rule.matches(tensor)]
        wanted: set[int | None] = set()
        for expert in range(first, last + 1):
            ranges = ((index, made.rules[index].experts or (0, expert)) for index in matching)
            wanted.add(next((i for i, its in ranges if its[0] <= expert <= its[1]), None))
        assert part.rule == min(wanted - {None}, default=None)
        for index in wanted - {None}:
            device = made.rules[index].device
            assert part.device == device or device == OWN_GPU


def check_layers(made: PlacementPlan, gpu_layers: int | None) -> None:
    """Runs of free blocks in the machine's order, -ngl of them on GPUs."""
    free = [
        home
        for layer, home in enumerate(made.layers)
        if not any(
            "rules moved" in part.reason
            for part in made.assignments
            if part.tensor.startswith(f"blk.{layer}.")
        )
        and any(
            part.rule is None and "attn_q." in part.tensor
            for part in made.assignments
            if part.tensor.startswith(f"blk.{layer}.")
        )
    ]
    assert free == sorted(free)
    if gpu_layers is not None:
        for layer, home in enumerate(made.layers):
            ruled = any(
                part.rule is not None
                for part in made.assignments
                if part.tensor.startswith(f"blk.{layer}.attn")
            )
            assert ruled or (home == CPU) == (layer < 5 - gpu_layers)


def check_fill(made: PlacementPlan, inventory: ModelInventory) -> None:
    """Blocks without rules are taken by their GPU's own kernels."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    ruled = {tensors[part.tensor].layer for part in made.assignments if part.rule is not None}
    assert set(reference_blocks(made.layers, made.assignments, tensors)) <= ruled


def check_error(request: Request, error: DoesNotFit) -> None:
    """Nothing fits as it was asked; each change that is offered does."""
    attempt = draft(request)
    assert overfull(attempt)
    assert error.remedies
    for line in error.details:
        if found := re.match(r"conflict: rule (\d+) .* on (\w+), whose budget", line):
            index, device = int(found[1]) - 1, found[2]
            nbytes = sum(
                part.nbytes
                for part in attempt.assignments
                if part.rule == index and part.device == device
            )
            assert nbytes > request.budgets[device]
        elif line.startswith("conflict: -ngl"):
            assert not overfull(draft(request.with_gpu_layers(None)))
    for remedy in single_changes(request, attempt):
        assert not overfull(draft(remedy.request))
    assert_nothing_simple_fits(request)


def assert_nothing_simple_fits(request: Request) -> None:
    """Every contiguous way to place free blocks over the GPUs, with their experts in RAM or at
    home.
    """
    shape = request.inventory.shape
    if request.gpu_layers is not None or request.rules:
        return
    names = request.machine.device_names
    for start in range(shape.layers + 1):
        for end in range(start, shape.layers + 1):
            for experts_home in (False, True):
                homes = ["CPU"] * start + ["CUDA0"] * (end - start)
                homes += ["CUDA1"] * (shape.layers - end)
                assert not fits_so(request, homes, names, experts_home)


def fits_so(request: Request, homes: list[str], names: tuple[str, ...], experts_home: bool) -> bool:
    parts = []
    for part in draft(request).assignments:
        pieces = part.tensor.split(".")
        tensor = next(t for t in request.inventory.tensors if t.name == part.tensor)
        if part.device == UNLOADED or (part.experts and part.experts[0]):
            parts += [part] if part.device == UNLOADED else []
            continue
        device = CPU
        if pieces[0] == "blk" and (experts_home or tensor.role is not Role.ROUTED_EXPERT):
            device = homes[int(pieces[1])]
        parts.append(replace(part, device=device, experts=None, nbytes=tensor.nbytes))
    needs = device_needs(request.inventory, request.workload, homes, parts, names, request.machine)
    return all(
        need.weights_bytes + need.cache_bytes + need.compute_bytes + need.other_bytes
        <= request.budgets[name]
        for name, need in needs.items()
    )
