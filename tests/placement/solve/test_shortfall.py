"""What a plan that does not fit says: true conflicts, and the changes a user would have found."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from placement.cost.predict import predict
from placement.errors import DoesNotFit
from placement.machines.choice import described_machine
from placement.machines.machine import DeviceKind, Machine
from placement.planner import plan
from placement.request import Request
from placement.rules import (
    Rule,
    cpu_moe_rule,
    fallbacks_last,
    n_cpu_moe_rules,
    parse_rules,
)
from placement.solve.draft import draft
from placement.solve.remedies import all_at_once, single_changes
from placement.solve.shortfall import fastest_first
from placement.solve.solver import Solver
from placement.solve.trials import Remedy, overfull
from placement.units import rate
from placement.workload import Workload
from tests.placement.models import GIB, deepseek_v3, machine

LOAD = Workload(8192)
SIXTEEN = machine(*[24 * GIB] * 16, ram=14 * GIB, kind=DeviceKind.GPU)


def error_of(where: Machine, *rules: Rule, load: Workload = LOAD, **options: object) -> DoesNotFit:
    with pytest.raises(DoesNotFit) as error:
        plan(deepseek_v3(), where, rules, load, **options)  # type: ignore[arg-type]
    return error.value


def request_of(
    where: Machine, budgets: Mapping[str, int], *rules: Rule, load: Workload = LOAD
) -> Request:
    named = {device.name: device.free_bytes for device in where.devices} | dict(budgets)
    return Request(deepseek_v3(), where, rules, load, named)


def test_budgets_that_would_do_together_are_no_conflict_and_equal_gpus_are_told_at_once() -> None:
    (line,) = (d for d in error_of(SIXTEEN).details if d.startswith("conflict"))
    assert "CPU is " in line
    assert " short; what stays free of 16 GPUs of 23.5 GiB" in line
    assert "together" not in line
    small = machine(24 * GIB, 24 * GIB, ram=100 * GIB, kind=DeviceKind.GPU)
    (line,) = (d for d in error_of(small).details if d.startswith("conflict"))
    budgets, needs = re.findall(r"([0-9.]+) GiB(?= together|$)", line)
    assert float(budgets) < float(needs)
    assert "CPU (100.0 GiB) and 2 GPUs of 23.5 GiB" in line


def test_a_plan_of_sixteen_gpus_that_does_not_fit_is_told_after_few_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    solve = Solver.solve
    monkeypatch.setattr(Solver, "solve", lambda *a, **k: calls.append(a[1:]) or solve(*a, **k))
    error_of(SIXTEEN)
    assert len(calls) <= 8
    # the search for every pair of time and RAM is for what fits: it takes ten times as long
    assert not [limits for limits in calls if limits and limits[0]]


def test_micro_batch_and_context_shrink_together_before_a_budget_is_all_that_is_offered() -> None:
    where = machine(40 * GIB, ram=349 * GIB, kind=DeviceKind.GPU)
    long = Workload(65536, ubatch_tokens=4096)
    budgets = {"CUDA0": 16 * GIB}
    error = error_of(where, cpu_moe_rule(), load=long, budgets=budgets, gpu_layers=99)
    assert re.match(r"-c \d+ -ub 512 together", error.remedies[0])
    assert any(text.startswith("--vram CUDA0=") for text in error.remedies)


def test_short_ram_is_helped_by_more_blocks_on_gpus() -> None:
    where = machine(*[40 * GIB] * 4, ram=250 * GIB, kind=DeviceKind.GPU)
    error = error_of(where, gpu_layers=10)
    asked = next(int(r.split()[1]) for r in error.remedies if re.match(r"-ngl \d+ in place", r))
    assert asked > 10
    plan(deepseek_v3(), where, (), LOAD, gpu_layers=asked)
    error_of(where, gpu_layers=asked - 1)
    assert any(text.startswith("-ngl auto in place of -ngl 10") for text in error.remedies)


def test_short_ram_beside_a_gpu_held_back_is_helped_by_its_vram_or_margin() -> None:
    where = machine(40 * GIB, ram=345 * GIB, kind=DeviceKind.GPU)
    (text,) = (r for r in error_of(where, budgets={"CUDA0": GIB}).remedies if "--margin" in r)
    vram, margin = re.findall(r"=(\d+)MiB|--margin (\d+)MiB", text)
    assert int(vram[0]) + int(margin[1]) == 40 * 1024
    plan(deepseek_v3(), where, (), LOAD, budgets={"CUDA0": int(vram[0]) << 20})
    with pytest.raises(DoesNotFit):
        plan(deepseek_v3(), where, (), LOAD, budgets={"CUDA0": (int(vram[0]) - 256) << 20})


def test_a_remedy_keeps_to_the_trained_context_and_says_its_speed_at_the_end() -> None:
    where = machine(40 * GIB, ram=400 * GIB, kind=DeviceKind.GPU)
    error = error_of(where, cpu_moe_rule(), load=Workload(10**6), gpu_layers=99)
    (text,) = (r for r in error.remedies if r.startswith("-c "))
    assert text.startswith("-c 163840 (all that the model was trained for) (")
    assert re.search(r"about [0-9.]+ tok/s, [0-9.]+ at the end; prompts [0-9.]+\)", text)


def test_a_context_below_the_trained_one_is_called_what_fits() -> None:
    where = machine(16 * GIB, ram=400 * GIB)  # too small a card for 163840 tokens of cache
    error = error_of(where, cpu_moe_rule(), load=Workload(10**6), gpu_layers=99)
    (text,) = (r for r in error.remedies if r.startswith("-c "))
    assert "trained" not in text
    assert int(text.split()[1]) < 163840


def test_too_small_a_budget_of_ram_is_told_with_what_would_do_and_the_map() -> None:
    where = machine(4 * GIB, ram=128 * GIB, kind=DeviceKind.GPU)
    error = error_of(where, budgets={"CPU": 64 * GIB})
    (text,) = (r for r in error.remedies if "--ram" in r)
    (needed,) = re.findall(r"--ram (\d+)GiB", text)
    made = plan(deepseek_v3(), where, (), LOAD, budgets={"CPU": int(needed) * GIB})
    assert sum(use.total_bytes for use in made.devices) > 300 * GIB


def from_the_file(error: DoesNotFit) -> list[str]:
    return [text for text in error.remedies if text.startswith("--mmap runs from the file")]


@pytest.mark.parametrize("longer", [None, 2048])
def test_where_ram_is_too_small_the_map_is_told_with_the_speeds_it_will_have(
    longer: int | None,
) -> None:
    where = described_machine("1xh200")
    load = Workload(8192, kernels="fast")
    options = {"budgets": {"CPU": 64 * GIB}, "longer_ubatch": longer}
    (text,) = from_the_file(error_of(where, cpu_moe_rule(), load=load, **options))
    found = plan(deepseek_v3(), where, (cpu_moe_rule(),), replace(load, mapped=True), **options)
    assert found.prediction is not None
    assert found.workload.ubatch_tokens == (longer or load.ubatch_tokens)
    assert f"; about {rate(found.prediction.decode[0].tokens_per_s)} tok/s" in text
    assert f"; prompts {rate(found.prediction.prompt[0].tokens_per_s)})" in text


def test_the_map_goes_with_what_makes_room_on_a_gpu() -> None:
    where, load = described_machine("1x4090-192g"), Workload(8192, kernels="fast")
    rules = fallbacks_last(n_cpu_moe_rules(50, 61, has_gpu=True))
    error = error_of(where, *rules, load=load)
    (text,) = (r for r in error.remedies if r.startswith("--mmap and drop --n-cpu-moe 50: runs"))
    found = plan(deepseek_v3(), where, (), replace(load, mapped=True))
    assert found.prediction is not None
    assert f"; about {rate(found.prediction.decode[0].tokens_per_s)} tok/s" in text
    assert not any("quantised smaller" in r or "--vram" in r for r in error.remedies)
    assert " more free RAM; --ram " in error.remedies[1]  # both are needed
    assert re.search(r"; and [\d.]+ GiB more on CUDA0, or rules", error.remedies[1])


def test_gpus_that_are_alike_are_not_listed_one_by_one() -> None:
    where = machine(*[24 * GIB] * 16, ram=400 * GIB, kind=DeviceKind.GPU)
    error = error_of(where, *fallbacks_last(n_cpu_moe_rules(5, 61, has_gpu=True)))
    assert sum(line.startswith("CUDA") for line in error.details) == 3
    assert sum(re.fullmatch(r"and \d+ more like these", line) is not None for line in error.details)
    assert error.remedies[0].startswith("drop --n-cpu-moe 5 (")


@pytest.mark.parametrize("n", [0, 5])
def test_n_cpu_moe_that_leaves_too_much_to_gpus_is_told_to_be_dropped(n: int) -> None:
    where = described_machine("16x3090")
    rules = fallbacks_last(n_cpu_moe_rules(n, 61, has_gpu=True))
    error = error_of(where, *rules, load=Workload(8192, kernels="fast", threads=64))
    assert error.remedies[0].startswith(f"drop --n-cpu-moe {n} (")
    assert not any("and and" in text for text in error.remedies)
    alone = described_machine("1x4090-192g")
    error = error_of(alone, *rules, load=Workload(8192, kernels="fast", threads=16))
    assert error.remedies[0].startswith("--mmap and ")
    assert error.remedies[1].endswith(" more on CUDA0, or rules that put less there")


def test_the_least_n_cpu_moe_is_not_all_where_it_leaves_whole_blocks_in_ram() -> None:
    where = described_machine("2xepyc-4090")
    rules = fallbacks_last(n_cpu_moe_rules(55, 61, has_gpu=True))
    error = error_of(where, *rules, load=Workload(8192, kernels="fast", threads=128))
    told = [
        re.match(r"--n-cpu-moe (\d+) in place .* about ([\d.]+) tok/s", r) for r in error.remedies
    ]
    found = [(int(one[1]), float(one[2])) for one in told if one is not None]
    assert len(found) == 2
    (fast, faster_tok_s), (least, tok_s) = found
    assert fast > least
    assert faster_tok_s > 1.2 * tok_s


def test_a_rule_that_ends_with_n_cpu_moe_is_no_error_of_its_own() -> None:
    where = described_machine("16x3090")
    beyond = parse_rules([r"blk\.4\..*exps#0-900=CUDA1"], where.device_names)
    rules = fallbacks_last([*n_cpu_moe_rules(5, 61, has_gpu=True), *beyond])
    error = error_of(where, *rules, load=Workload(8192, kernels="fast", threads=64))
    assert not any(text.startswith("drop --n-cpu-moe") for text in error.remedies)


def test_the_map_is_no_way_out_where_it_does_not_help() -> None:
    small = machine(ram=2 * GIB)  # for caches and buffers alone
    error = error_of(small)
    assert from_the_file(error) == []
    assert error.remedies[0].startswith("a smaller model: this one takes ")
    full = machine(4 * GIB, ram=450 * GIB, kind=DeviceKind.GPU)  # of a GPU
    assert from_the_file(error_of(full, cpu_moe_rule(), gpu_layers=99)) == []
    mapped = machine(ram=2 * GIB)
    assert from_the_file(error_of(mapped, load=replace(LOAD, mapped=True))) == []
    roomy = described_machine("8xh200")  # whose GPUs have room for all
    error = error_of(roomy, cpu_moe_rule(), budgets={"CPU": 100 * GIB})
    assert error.remedies[0].startswith("drop rule 1")
    assert from_the_file(error) == []


def test_a_rule_that_finds_more_blocks_than_it_means_is_mended_first() -> None:
    where = machine(24 * GIB, ram=400 * GIB)
    rules = parse_rules(["blk.1.*=CUDA0", "exps=CPU"], where.device_names)
    error = error_of(where, *rules)
    assert error.remedies[0].startswith(r"write rule 1 as -ot 'blk\.1\..*=CUDA0': it finds")
    assert any("conflict" in line and "finds layers 10-19 too" in line for line in error.details)
    meant = parse_rules([r"blk\.1\..*=CUDA0", "exps=CPU"], where.device_names)
    plan(deepseek_v3(), where, meant, LOAD)


def test_too_little_ram_names_the_weights_that_fit() -> None:
    error = error_of(machine(ram=100 * GIB))
    smaller, _, more = error.remedies
    weights = float(re.search(r"about ([0-9.]+) GiB of weights fit", smaller)[1])  # type: ignore[index]
    short = float(re.match(r"([0-9.]+) GiB more free RAM", more)[1])  # type: ignore[index]
    whole = draft(request_of(machine(ram=100 * GIB), {})).devices[0].weights_bytes / GIB
    assert weights == pytest.approx(whole - short, abs=0.2)


def test_every_change_together_fits() -> None:
    where = machine(24 * GIB, ram=400 * GIB, kind=DeviceKind.GPU)
    request = request_of(where, {"CUDA0": 15 * GIB}, cpu_moe_rule(), load=Workload(65536, 4096))
    request = request.with_gpu_layers(99)
    attempt = draft(request)
    assert overfull(attempt)
    for remedy in (*single_changes(request, attempt), *all_at_once(request)):
        assert not overfull(draft(remedy.request)), remedy.text


def test_a_rule_is_not_offered_to_be_dropped_where_the_next_one_cannot_be_obeyed() -> None:
    where = machine(24 * GIB, ram=100 * GIB)
    error = error_of(where, *parse_rules(["exps=CPU", "exps#0-999=CUDA0"], where.device_names))
    assert not any(text.startswith("drop rule 1") for text in error.remedies)


def test_where_the_number_of_a_block_goes_on_that_is_the_conflict() -> None:
    where = machine(24 * GIB, ram=400 * GIB)
    rules = parse_rules(["blk.1.*=CUDA0", "exps=CPU"], where.device_names)
    lines = error_of(where, *rules, gpu_layers=99).details
    assert any("conflict: rule 1 (blk.1.*=CUDA0)" in line for line in lines)


@pytest.mark.parametrize(
    ("rules", "options", "order"),
    [
        (
            [r"blk\.(3|4|5)\..*_exps=CUDA0", "exps=CPU"],
            {"gpu_layers": 99},
            ["-ncmoe ", "drop rule 1 ", "-ngl "],
        ),
        (["exps=CUDA0"], {}, ["drop rule 1 ", "-ncmoe "]),
    ],
)
def test_changes_are_told_by_their_speed_the_fastest_first(
    rules: list[str], options: dict[str, object], order: list[str]
) -> None:
    where = described_machine("2xepyc-4090")
    load = Workload(8192, kernels="fast", threads=128)
    parsed = parse_rules(rules, where.device_names)
    remedies = error_of(where, *parsed, load=load, **options).remedies
    speeds = [float(re.search(r"about ([0-9.]+) tok/s", text)[1]) for text in remedies]  # type: ignore[index]
    assert all(after <= 1.04 * before for before, after in pairwise(speeds))
    assert max(speeds) > 1.2 * min(speeds)
    places = [next(n for n, t in enumerate(remedies) if t.startswith(words)) for words in order]
    assert places == sorted(places)


def test_what_was_meant_stays_first_and_more_of_the_machine_last() -> None:
    where = described_machine("2xepyc-4090")
    request = request_of(where, {}, load=replace(LOAD, kernels="fast", threads=128))
    slow = draft(replace(request, gpu_layers=0))
    fast = draft(request)
    speeds = [
        predict(made, request.inventory, where, request.expert_stats) for made in (slow, fast)
    ]
    told = [
        (Remedy("slow", request, slow), speeds[0]),
        (Remedy("budget", request, fast, is_budget=True), speeds[1]),
        (Remedy("fast", request, fast), speeds[1]),
        (Remedy("alike", request, fast), speeds[1]),
        (Remedy("meant", request, slow, is_meant=True), speeds[0]),
    ]
    names = [remedy.text for remedy, _ in fastest_first(told)]
    assert names == ["meant", "fast", "alike", "slow", "budget"]
    silent = [(remedy, None) for remedy, _ in told[:1] + told[2:4]]
    assert [remedy.text for remedy, _ in fastest_first(silent)] == ["slow", "fast", "alike"]
