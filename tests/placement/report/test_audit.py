from dataclasses import dataclass

import pytest

from placement.machines.calibration import Calibration
from placement.memory.overheads import WORKSPACE
from placement.memory.parts import COMPUTE, OTHER, Part
from placement.plan import DeviceUse, PlacementPlan
from placement.prediction import Pace
from placement.report.audit import (
    TOTAL,
    Audit,
    Measured,
    MemoryLine,
    audit,
    planned_bytes,
    run_rates,
    taught,
)
from placement.workload import Workload

MIB = 1 << 20
GIB = 1 << 30
PARTS = {
    "CUDA0": (
        Part("weights", "attention", 20 * GIB),
        Part("cache", "rows", GIB),
        Part("compute", "logits", 2 * GIB),
        Part("other", WORKSPACE, 32 * MIB),
        Part("other", "CUDA context", 512 * MIB),
    )
}
ACTUAL = {
    "weights": 20 * GIB,
    "cache": GIB,
    "compute": 2 * GIB + 30 * MIB,
    "other": 500 * MIB,
    TOTAL: 23 * GIB + 530 * MIB,
}


def pace(depth: int, rate: float, tokens: int = 1) -> Pace:
    return Pace(depth, tokens, rate, {})


def expected(run: Measured) -> tuple[Pace, str]:
    """100 tokens a second at the beginning, half of that after 4096."""
    rate = (1000.0 if run.what == "prompt" else 100.0) / (1 + run.depth / 4096)
    return pace(run.depth, rate), f"{run.what}_gpu"


PLAN = PlacementPlan(
    "m",
    "deepseek2",
    21 * GIB,
    (),
    ("CUDA0",),
    (DeviceUse("CUDA0", 24 * GIB, 20 * GIB, GIB, 2 * GIB, 544 * MIB),),
    (),
    Workload(4096),
)


def audited(*measured: Measured, **changes: int) -> Audit:
    return audit(PLAN, PARTS, {"CUDA0": {**ACTUAL, **changes}}, measured, expected)


def test_what_was_planned_and_taken_alike_warns_of_nothing() -> None:
    found = audited()
    assert [line.category for line in found.memory] == [
        *("weights", "cache"),
        COMPUTE,
        OTHER,
        TOTAL,
    ]
    assert found.warnings == ()


def test_the_workspace_is_counted_where_torchs_pool_counts_it() -> None:
    planned = planned_bytes(PARTS["CUDA0"])
    assert planned[COMPUTE] == 2 * GIB + 32 * MIB
    assert planned[OTHER] == 512 * MIB
    assert planned[TOTAL] == sum(part.nbytes for part in PARTS["CUDA0"])


@pytest.mark.parametrize(
    ("off", "word"), [(600 * MIB, "more"), (-600 * MIB, "less"), (400 * MIB, None)]
)
def test_more_than_two_percent_of_a_large_device_is_a_warning(off: int, word: str | None) -> None:
    found = audited(compute=2 * GIB + 32 * MIB + off)
    if word is None:
        assert found.warnings == ()
    else:
        (text,) = found.warnings
        assert text.startswith(f"CUDA0 holds 600.0 MiB {word} of compute than planned: ")


def test_two_hundred_mebibytes_are_allowed_on_a_small_device() -> None:
    for more, is_off in ((200 * MIB, False), (201 * MIB, True)):
        assert MemoryLine("CPU", "other", 0, more, 200 * MIB).is_off is is_off


def test_categories_that_nobody_measured_are_left_out() -> None:
    found = audit(PLAN, PARTS, {"CUDA0": {"weights": 20 * GIB}})
    assert [line.category for line in found.memory] == ["weights"]
    assert audit(PLAN, PARTS, {}).memory == ()


def test_rates_are_held_against_what_a_run_like_them_was_to_reach() -> None:
    runs = [Measured("decode", 4096, 32, 80.0), Measured("prompt", 0, 100, 80.0)]
    lines = audited(*runs).speed
    assert [(line.predicted, line.kind) for line in lines] == [
        (50.0, "decode_gpu"),
        (1000.0, "prompt_gpu"),
    ]


@pytest.mark.parametrize(
    ("rate", "text"), [(80.0, "20% slower"), (120.0, "20% faster"), (90.0, None)]
)
def test_fifteen_percent_of_speed_are_a_warning(rate: float, text: str | None) -> None:
    warnings = audited(Measured("decode", 0, 32, rate)).warnings
    assert len(warnings) == (text is not None)
    assert all(str(text) in warning for warning in warnings)


def test_what_nobody_predicted_is_shown_and_teaches_nothing() -> None:
    found = audit(PLAN, PARTS, {}, [Measured("decode", 9, 32, 80.0)])
    assert found.speed[0].predicted is None
    assert found.rows()[-1] == ["decode @ 9", "tok/s", "-", "80.0", "-"]
    assert taught(found, Calibration()) == {}


def test_a_run_teaches_by_how_much_it_was_slower() -> None:
    found = audited(Measured("decode", 0, 32, 80.0))
    assert taught(found, Calibration()) == {"decode_gpu": 1.25}


def test_a_prediction_that_calibration_made_does_not_count_its_correction_twice() -> None:
    used = Calibration({"decode_gpu": (1.3, 1.3, 1.3)})
    assert taught(audited(Measured("decode", 0, 32, 100.0)), used) == {"decode_gpu": 1.3}


def test_the_rates_of_one_run_teach_their_median() -> None:
    used = Calibration({"decode_gpu": (1.4,)})
    found = audited(*(Measured("decode", 0, 32, rate) for rate in (50.0, 80.0, 100.0)))
    assert taught(found, used) == {"decode_gpu": pytest.approx(1.2 * 1.25)}


@pytest.mark.parametrize(("what", "fewest"), [("decode", 32), ("prompt", 64)])
def test_a_short_run_teaches_nothing_and_warns_of_nothing(what: str, fewest: int) -> None:
    short, long = (Measured(what, 0, tokens, 400.0) for tokens in (fewest - 1, fewest))
    assert taught(audited(short), Calibration()) == {}
    assert audited(short).warnings == ()
    assert len(audited(long).warnings) == 1
    assert len(taught(audited(long), Calibration())) == 1


def test_rows_and_json_say_the_same() -> None:
    found = audited(Measured("decode", 0, 32, 80.0), compute=3 * GIB)
    rows, as_json = found.rows(), found.to_json()
    assert rows[0] == ["audit", "", "planned", "actual", "difference"]
    assert rows[3] == ["CUDA0", "compute", "2.0 GiB", "3.0 GiB", "+992.0 MiB"]
    assert rows[-1] == ["decode @ 0", "tok/s", "100.0", "80.0", "-20.0%"]
    assert as_json["memory"][2]["is_off"] is True
    assert as_json["speed"][0]["measured"] == 80.0
    assert as_json["warnings"] == list(found.warnings)
    assert len(found.warnings) == 2


@dataclass
class Sums:
    prompt_tokens: int
    decode_tokens: int
    prompt_tokens_per_s: float | None
    decode_tokens_per_s: float | None


def test_a_runs_rates_are_those_of_its_middle() -> None:
    assert run_rates(Sums(100, 20, 500.0, 40.0)) == (
        Measured("prompt", 0, 100, 500.0),
        Measured("decode", 110, 20, 40.0),
    )
    assert run_rates(Sums(0, 3, None, 40.0)) == ()
