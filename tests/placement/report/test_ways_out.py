"""A plan whose blocks the reference computes says what would be faster, with speeds that hold."""

from dataclasses import replace

import pytest

from placement.machines.choice import described_machine
from placement.machines.machine import DeviceKind, Machine
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.rules import parse_rules
from placement.units import rate
from placement.workload import Workload
from tests.placement.models import GIB, deepseek_v3

EXPERTS = r"blk\.(3|4|5)\.ffn_.*_exps=CUDA0"
BLOCKS = r"blk\.[345]\.=CUDA0"
LOAD = Workload(8192, kernels="fast", threads=128)


def rig(gib: int = 24, kind: DeviceKind = DeviceKind.GPU) -> Machine:
    """Two sockets and one card of this size."""
    where = described_machine("2xepyc-4090")
    host, card = where.devices
    size = gib * GIB
    return replace(
        where, devices=(host, replace(card, kind=kind, total_bytes=size, free_bytes=size))
    )


def planned(*texts: str, where: Machine | None = None) -> PlacementPlan:
    """With -ngl 2, which leaves the blocks of these rules in RAM."""
    where = where or rig()
    rules = parse_rules(texts, where.device_names)
    return plan(deepseek_v3(), where, rules, LOAD, gpu_layers=2)


def decode_rate(made: PlacementPlan) -> float:
    assert made.prediction is not None
    return made.prediction.decode[0].tokens_per_s


def reference_note(made: PlacementPlan) -> str:
    (note,) = [note for note in made.notes if "reference kernels" in note]
    return note


def test_the_rule_dropped_and_the_whole_blocks_moved_are_told_the_fastest_first() -> None:
    made = planned(EXPERTS, "exps=CPU")
    now = decode_rate(made)
    ways = {
        f"without rule 1 ({EXPERTS})": decode_rate(planned("exps=CPU")),
        f"-ot '{BLOCKS}' first moves the whole blocks": decode_rate(
            planned(BLOCKS, EXPERTS, "exps=CPU")
        ),
    }
    assert min(ways.values()) > now
    told = reference_note(made).partition("; faster: ")[2].split("; ")
    ordered = sorted(ways.items(), key=lambda way: -way[1])
    assert told == [
        f"{ordered[0][0]}, about {rate(ordered[0][1])} tok/s in place of {rate(now)}",
        f"{ordered[1][0]}, about {rate(ordered[1][1])}",
    ]


def test_a_way_that_does_not_fit_is_not_told() -> None:
    made = planned(EXPERTS, "exps=CPU", where=rig(gib=21))
    assert made.devices[1].budget_bytes - made.devices[1].total_bytes < GIB // 4
    note = reference_note(made)
    assert "without rule 1" in note
    assert BLOCKS not in note


def test_no_speeds_are_told_of_gpus_that_the_cpu_plays() -> None:
    where = rig(kind=DeviceKind.SIMULATED_GPU)
    note = reference_note(planned(EXPERTS, "exps=CPU", where=where))
    assert f"; faster: -ot '{BLOCKS}' first moves the whole blocks; without rule 1 (" in note
    assert "tok/s" not in note


@pytest.mark.parametrize("rule", ["attn_output=CPU", r"blk\.7\.ffn_gate_inp=CPU"])
def test_an_operation_in_ram_is_helped_by_dropping_its_rule(rule: str) -> None:
    where = rig()
    made = plan(deepseek_v3(), where, parse_rules([rule], where.device_names), LOAD)
    without = plan(deepseek_v3(), where, (), LOAD)
    assert reference_note(made).endswith(
        f"; faster: without rule 1 ({rule}), about {rate(decode_rate(without))} tok/s in place of"
        f" {rate(decode_rate(made))}"
    )
