"""Scratch that a GPU is given before its blocks are known is never less than the plan needs."""

import pytest

from placement.memory.budgets import device_budgets
from placement.planner import plan
from placement.request import Request
from placement.rules import parse_rules
from placement.solve.demand import demand_of
from placement.solve.draft import draft
from placement.solve.home_scratch import HomeScratch, lodgers_of
from placement.solve.homes import choose_homes
from placement.workload import Workload
from tests.placement.models import GIB, deepseek_v3, machine, tiny

RULES = [
    [],
    ["exps=CPU"],
    ["exps=GPU"],
    ["exps#0-3=GPU", "exps=CPU"],
    ["exps#2-5=GPU", "exps=CPU"],
    ["gate_exps=GPU", "exps=CPU"],
    ["exps#4-7=CPU"],
    [r"blk\.2\.attn_output=CPU"],
    [".*=CUDA0"],
]
CASES = [(gpus, rules) for gpus in (1, 2) for rules in RULES]
CASES += [(2, [r"blk\.1\..*exps=CUDA1", "exps=CPU"])]


@pytest.mark.parametrize("kernels", ["fast", "exact"])
@pytest.mark.parametrize(("gpus", "rules"), CASES, ids=str)
def test_what_a_gpu_is_given_is_enough_for_what_it_gets(gpus, rules, kernels):
    where = machine(*[GIB] * gpus)
    parsed, load = parse_rules(rules, where.device_names), Workload(256, 16, kernels=kernels)
    request = Request(tiny(), where, parsed, load, device_budgets(where, None))
    demand, homes, made = demand_of(request), choose_homes(request), draft(request)
    for use in made.devices[1:]:
        here = [layer for layer, home in enumerate(homes.layers) if home == use.name]
        given = HomeScratch(request, demand, use.name).of(
            lodgers_of(here, demand, use.name),
            head=homes.head == use.name,
            filled=any(layer in homes.experts for layer in here),
        )
        assert use.compute_bytes <= given


def test_blocks_that_a_gpu_takes_whole_cost_no_scratch_of_the_reference():
    where, load = machine(80 * GIB, ram=512 * GIB), Workload(32768, 512, kernels="fast")
    whole = plan(deepseek_v3(), where, tuple(parse_rules(["exps=CPU"], ("CPU", "CUDA0"))), load)
    rules = [r"blk\.7\.attn_output=CPU", "exps=CPU"]
    cut = plan(deepseek_v3(), where, tuple(parse_rules(rules, ("CPU", "CUDA0"))), load)
    assert cut.devices[1].compute_bytes > whole.devices[1].compute_bytes
