"""From how many tokens on experts come over PCIe: what the machine's CPU and bus make of it."""

import re
from dataclasses import replace

import pytest

from placement.cost.streaming import TRIED, stream_tokens
from placement.machines.choice import described_machine
from placement.machines.estimates import speeds_of
from placement.machines.machine import Machine
from placement.planner import plan
from placement.rules import parse_rules
from placement.units import rate
from placement.workload import STREAM_TOKENS, Workload
from tests.placement.models import deepseek_v3, machine, tiny

LOAD = Workload(8192, 2048, threads=64, kernels="fast")


def with_speeds(tflops: float, to_gpu_gb_s: float) -> Machine:
    where = described_machine("2xepyc-4090")
    speeds = speeds_of(where)
    gpus = {name: replace(its, to_gpu_gb_s=to_gpu_gb_s) for name, its in speeds.gpus.items()}
    host = replace(speeds.host, matmul_tflops=tflops, by_threads=())
    return replace(where, speeds=replace(speeds, host=host, gpus=gpus))


def test_a_stronger_cpu_and_a_slower_bus_keep_experts_in_ram_for_longer() -> None:
    found = [
        stream_tokens(deepseek_v3(), with_speeds(tflops, bus), LOAD)
        for tflops, bus in ((1.0, 50.0), (6.0, 50.0), (6.0, 12.5), (25.0, 12.5))
    ]
    assert found == sorted(found)
    assert found[0] == TRIED[0]
    assert found[1] < 40 < found[2] < found[3]


def test_a_cpu_that_is_always_faster_is_left_to_its_work() -> None:
    assert stream_tokens(deepseek_v3(), with_speeds(1000.0, 1.0), LOAD) == TRIED[-1]


@pytest.mark.parametrize("load", [replace(LOAD, kernels="exact")])
def test_who_streams_nothing_has_the_usual_number(load: Workload) -> None:
    assert stream_tokens(deepseek_v3(), with_speeds(25.0, 12.5), load) == STREAM_TOKENS
    assert stream_tokens(tiny(), machine(), LOAD) == STREAM_TOKENS


def test_a_plan_says_from_which_micro_batch_on() -> None:
    where = with_speeds(25.0, 12.5)
    rules = parse_rules(["exps=CPU"], where.device_names)
    made = plan(deepseek_v3(), where, rules, replace(LOAD, context_tokens=32768))
    each = made.workload.stream_tokens
    (note,) = [note for note in made.notes if note.startswith("prompts: ")]
    assert f"from -ub {each * 256 // 8} on" in note


def test_the_note_has_a_prompts_speed_both_ways() -> None:
    where = with_speeds(25.0, 12.5)
    rules = parse_rules(["exps=CPU"], where.device_names)
    long = replace(LOAD, context_tokens=32768)
    (note,) = [n for n in plan(deepseek_v3(), where, rules, long).notes if "prompts: " in n]
    found = re.search(r"from -ub (\d+) on .*: about ([\d.]+) tok/s instead of ([\d.]+), for", note)
    assert found is not None
    wide = plan(deepseek_v3(), where, rules, replace(long, ubatch_tokens=int(found[1])))
    assert wide.prediction is not None
    assert found[2] == rate(wide.prediction.prompt[0].tokens_per_s)
    assert float(found[2]) > float(found[3])


def test_the_note_has_what_a_long_micro_batch_costs_decoding() -> None:
    where, load = described_machine("16x3090"), Workload(8192, kernels="fast", threads=64)
    made = plan(deepseek_v3(), where, (), load)
    (note,) = [n for n in made.notes if "prompts: " in n]
    found = re.search(r"from -ub (\d+) on .*; decoding then ([\d.]+), not ([\d.]+)$", note)
    assert found is not None
    wide = plan(deepseek_v3(), where, (), replace(load, ubatch_tokens=int(found[1])))
    assert made.prediction is not None
    assert wide.prediction is not None
    rates = [rate(one.prediction.decode[0].tokens_per_s) for one in (wide, made)]  # type: ignore[union-attr]
    assert list(found.groups()[1:]) == rates
    assert float(rates[0]) < 0.97 * float(rates[1])


def test_a_long_micro_batch_that_has_no_room_is_not_held_out() -> None:
    where = with_speeds(25.0, 12.5)
    rules = parse_rules(["exps=CPU"], where.device_names)
    long = replace(LOAD, context_tokens=32768)
    roomy = plan(deepseek_v3(), where, rules, long, gpu_layers=99)
    tight = {"CUDA0": roomy.devices[1].total_bytes}
    notes = plan(deepseek_v3(), where, rules, long, budgets=tight, gpu_layers=99).notes
    (note,) = [n for n in notes if "prompts: " in n]
    assert note.endswith("on they are brought to the GPUs, for which there is no room")


def test_a_micro_batch_beyond_the_context_is_not_spoken_of() -> None:
    where = with_speeds(25.0, 12.5)
    rules = parse_rules(["exps=CPU"], where.device_names)
    short = replace(LOAD, context_tokens=4096)
    assert [n for n in plan(deepseek_v3(), where, rules, short).notes if "prompts: " in n] == []
