"""Rows and columns."""

from dataclasses import replace

import pytest

from hybrid.cli.bench_placements import Placement
from hybrid.cli.bench_table import (
    MOST_LABEL,
    prediction_lines,
    predictions_ram,
    results_table,
    short_label,
)
from hybrid.runtime.bench import BenchCase, BenchResult, Work
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from placement.cost.pieces import speeds_of_run
from placement.machines.estimates import speeds_of
from placement.prediction import Pace, Prediction
from tests.cli.bench_results import IN_RAM, ON_GPU, decode, measured, prompt

ONLY = Placement(1, "", ())


def test_placements_of_one_test_stand_below_each_other():
    rows = [line.split() for line in results_table(measured().rows, {}).splitlines()[1:]]
    assert [(row[0], row[1]) for row in rows[:4]] == [
        *(("pp128", "1"), ("pp128", "2")),
        *(("tg32", "1"), ("tg32", "2")),
    ]
    assert [row[:4] for row in rows[4:]] == [
        ["pp128", "@", "d64", "1"],
        ["pp128", "@", "d64", "2"],
        ["tg32", "@", "d64", "1"],
    ]


def test_a_row_has_the_spread_the_memory_that_binds_and_the_prediction():
    titles, of_ram, of_gpu = results_table(
        [(IN_RAM, decode(0, 10)), (ON_GPU, decode(0, 20, "CUDA0"))], {1: 512, 2: 512}
    ).splitlines()
    assert titles.split()[:4] == ["test", "placement", "tok/s", "min"]
    words = "tg32 1 exps=CPU 10.00 9.50 .. 10.50 10.0% 20.00 RAM 50.0% 8.00 +25.0% 1.0 GiB"
    assert of_ram.split() == words.split()
    assert "40.00 CUDA0 (estimated)" in of_gpu


def test_columns_without_a_value_are_left_out():
    native = BenchResult(BenchCase(Work.DECODE, 32), (10.0,), {}, outside_native=0.021)
    bare = replace(prompt(0, 60), predicted_tok_s=None)
    titles = results_table([(ONLY, bare)], {1: 512}).splitlines()[0]
    assert titles.split() == ["test", "tok/s", "min", "..", "max", "spread"]
    both = [(ONLY, prompt(0, 60)), (ONLY, decode(0, 10))]
    titles, first, _ = results_table(both, {1: 512}).splitlines()
    assert "of limit" in titles
    assert "outside native" not in titles
    assert first.split()[-5:] == ["-", "-", "60.00", "+0.0%", "-"]
    assert results_table([(ONLY, native)], {1: 512}).splitlines()[1].endswith("2.1%")


def test_prompts_tell_their_micro_batch_where_placements_differ_in_it():
    rows = [(IN_RAM, prompt(0, 60)), (ON_GPU, prompt(0, 70)), (ON_GPU, decode(0, 20))]
    titles, *lines = results_table(rows, {1: 512, 2: 2048}).splitlines()
    assert titles.split()[1:3] == ["placement", "micro-batch"]
    assert [line.split()[3] for line in lines] == ["512", "2048", "-"]
    assert "micro-batch" not in results_table(rows, {1: 512, 2: 512})


def test_under_the_table_stands_from_which_speeds_predictions_come_and_how_sure_they_are():
    estimated = {"source": "estimated", "error": 0.4}
    [line] = prediction_lines([estimated, None, estimated])
    assert line.startswith("predictions: speeds estimated; right within 40 %: hybrid doctor --meas")
    assert prediction_lines([estimated, {"source": "measured 2026-11-21", "error": 0.15}]) == [
        line,
        "predictions: speeds measured 2026-11-21; right within 15 %",
    ]
    assert prediction_lines([None]) == []


def test_a_long_placement_is_cut_and_keeps_its_number():
    label = short_label(Placement(12, "x" * 200, ()))
    assert len(label) == MOST_LABEL
    assert label.startswith("12 xxx")
    assert label.endswith("...")


@pytest.mark.parametrize(
    ("share", "told"), [(1.0, False), (0.9, False), (1.1, False), (0.8, True), (1.3, True)]
)
def test_ram_that_reads_otherwise_than_predictions_take_it_is_told(
    share: float, told: bool
) -> None:
    plan = prepare("demo", LoadOptions(devices=(), context=64, threads=1))
    known_gb_s = speeds_of_run(speeds_of(plan.machine), plan.plan.workload).host.read_gb_s
    found = predictions_ram(plan.plan, plan.machine, share * known_gb_s)
    assert found.startswith(f"predictions take {known_gb_s:.1f} GB/s") if told else found == ""


def test_ram_that_no_token_waits_for_is_not_spoken_of() -> None:
    played = prepare("demo", LoadOptions(simulate={"CUDA0": 64 << 20}, context=64))
    assert predictions_ram(played.plan, played.machine, 0.001) == ""
    on_cards = played.plan
    pace = Pace(0, 1, 1.0, {"GPU products": 1.0})
    alone = Prediction((pace,), (pace,), 0.1, "", "measured")
    assert predictions_ram(replace(on_cards, prediction=alone), played.machine, 0.001) == ""
