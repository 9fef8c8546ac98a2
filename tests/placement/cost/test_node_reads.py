"""What --numa is worth on two memory nodes, and what is said of it."""

from dataclasses import replace

import pytest

from placement.cost.node_reads import NODES_ERROR, with_policy
from placement.machines.choice import described_machine
from placement.machines.estimates import speeds_of
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.plan_json import from_json, to_json
from placement.planner import plan
from placement.prediction import Prediction
from placement.rules import cpu_moe_rule, parse_rules
from placement.workload import NUMA_POLICIES, Workload
from tests.placement.models import deepseek_v3

MODEL, TWO_SOCKETS = deepseek_v3(), described_machine("2xepyc-4090")


def made(numa: str, machine: Machine = TWO_SOCKETS, *, mapped: bool = False) -> PlacementPlan:
    load = Workload(8192, kernels="fast", threads=128, numa_policy=numa, mapped=mapped)
    return plan(MODEL, machine, (cpu_moe_rule(),), load)


def of(plan: PlacementPlan) -> Prediction:
    assert plan.prediction is not None
    return plan.prediction


def experts_s(plan: PlacementPlan) -> float:
    return of(plan).decode[0].seconds["CPU experts"]


def test_shards_are_read_sooner_than_pages_in_turn() -> None:
    gain = experts_s(made("interleave")) / experts_s(made("shard"))
    assert 1.4 < gain < 1.7  # beside the jobs' own time and the GPU's experts meanwhile
    assert experts_s(made("off")) == experts_s(made("local")) == experts_s(made("interleave"))
    assert experts_s(made("shard", mapped=True)) == experts_s(made("interleave", mapped=True))


def test_a_gain_of_the_machine_file_counts() -> None:
    assert TWO_SOCKETS.speeds is not None
    host = replace(TWO_SOCKETS.speeds.host, shard_gain=1.0)
    machine = replace(TWO_SOCKETS, speeds=replace(TWO_SOCKETS.speeds, host=host))
    assert experts_s(made("shard", machine)) == experts_s(made("interleave", machine))


def test_on_one_node_every_policy_is_the_same() -> None:
    one = replace(TWO_SOCKETS, numa_nodes=())
    assert all(of(made(numa, one)) == of(made("interleave", one)) for numa in NUMA_POLICIES)
    assert [note for note in made("shard", one).notes if "numa" in note] == []


def test_nodes_that_nobody_measured_widen_the_error() -> None:
    one, usual = replace(TWO_SOCKETS, numa_nodes=()), of(made("interleave"))
    assert usual.error == pytest.approx(of(made("interleave", one)).error + NODES_ERROR)
    assert TWO_SOCKETS.speeds is not None
    host = replace(TWO_SOCKETS.speeds.host, by_node=((0, 300.0), (1, 300.0)))
    measured = replace(TWO_SOCKETS, speeds=replace(TWO_SOCKETS.speeds, host=host))
    assert of(made("interleave", measured)).error < usual.error
    assert of(made("off", measured)).error == pytest.approx(usual.error)
    assert any("are measured" in note for note in made("interleave", measured).notes)


@pytest.mark.parametrize(
    ("numa", "words"),
    [
        ("interleave", "estimated; --numa shard is taken to read routed experts 1.6 times"),
        ("shard", "--numa shard: routed experts are taken to be read 1.6 times as fast"),
        ("off", "the system places pages"),
    ],
)
def test_the_report_says_which_policy_was_predicted(numa: str, words: str) -> None:
    (note,) = [note for note in made(numa).notes if "NUMA nodes" in note]
    assert note.startswith(f"2 NUMA nodes, --numa {numa}:")
    assert words in note


def test_a_saved_plan_takes_the_policy_of_the_run() -> None:
    saved = from_json(to_json(made("interleave")))
    assert saved == made("interleave")
    now = with_policy(saved, TWO_SOCKETS, speeds_of(TWO_SOCKETS), "shard")
    assert (now.workload, now.notes) == (made("shard").workload, made("shard").notes)
    old = to_json(made("interleave"))
    del old["workload"]["numa_policy"]
    assert from_json(old) == made("interleave")


def test_an_embedding_alone_in_ram_is_no_matter_of_nodes() -> None:
    machine = described_machine("8xh200")
    load = Workload(8192, kernels="fast", threads=112)
    on_gpus = plan(MODEL, machine, (), load)
    assert [part.tensor for part in on_gpus.assignments if part.device == "CPU"] == [
        "token_embd.weight"
    ]
    assert [note for note in on_gpus.notes if "NUMA" in note] == []
    one = plan(MODEL, replace(machine, numa_nodes=()), (), load)
    assert of(on_gpus).error == of(one).error


def test_shards_are_not_spoken_of_without_routed_experts_in_ram() -> None:
    [usual] = [note for note in made("interleave").notes if "NUMA" in note]
    assert "--numa shard" in usual
    machine, load = described_machine("8xh200"), Workload(8192, kernels="fast", threads=112)
    rules = parse_rules([r"blk\.0\.attn_output=CPU"], machine.device_names)
    [beside] = [note for note in plan(MODEL, machine, rules, load).notes if "NUMA" in note]
    assert "--numa shard" not in beside
