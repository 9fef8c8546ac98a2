"""Whoever has a GPU has it used; where the CPU alone would be faster the plan says so."""

from dataclasses import replace

import pytest

from placement.machines.choice import described_machine
from placement.machines.estimates import speeds_of
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import deepseek_v3


def planned(where: Machine, *rules: str) -> PlacementPlan:
    parsed = parse_rules(rules, where.device_names)
    return plan(deepseek_v3(), where, parsed, Workload(4096, 64, threads=64, kernels="fast"))


def told(made: PlacementPlan) -> list[str]:
    return [note for note in made.notes if note.startswith("the CPU alone would be faster")]


def slow_gpu() -> Machine:
    where = described_machine("2xepyc-4090")
    speeds = speeds_of(where)
    gpus = {
        name: replace(its, copy_gb_s=20.0, matmul_tflops=0.5) for name, its in speeds.gpus.items()
    }
    return replace(where, speeds=replace(speeds, gpus=gpus))


@pytest.mark.parametrize("rules", [(), ("exps=CPU",)])
def test_a_gpu_that_is_slower_than_the_cpu_is_named_with_the_way_out(
    rules: tuple[str, ...],
) -> None:
    (note,) = told(planned(slow_gpu(), *rules))
    assert "decode" in note
    assert "--device none" in note


def test_a_good_gpu_and_a_rule_that_wants_it_say_nothing() -> None:
    assert told(planned(described_machine("2xepyc-4090"), "exps=CPU")) == []
    assert told(planned(slow_gpu(), "exps=CPU", "attn=CUDA0")) == []
