from dataclasses import replace

import pytest

from placement.errors import DoesNotFit, RequestError, RuleError
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.report.device_memory import MOST_APART
from placement.report.what_if import (
    MOST_ROWS,
    Outcome,
    Settings,
    parse_settings,
    shortage,
    try_settings,
    what_if_rows,
    what_if_text,
)
from placement.workload import Workload
from tests.placement.golden_reports import MEASURED
from tests.placement.models import GIB, machine, tiny


def made(context: int = 256) -> PlacementPlan:
    return plan(tiny(), machine(GIB), (), Workload(context, 16))


def made_of(gpus: int) -> PlacementPlan:
    return plan(tiny(), machine(*[GIB] * gpus), (), Workload(256, 16), gpu_layers=99)


def test_every_combination_is_a_row_and_the_last_key_varies_fastest() -> None:
    assert parse_settings(["ctx=8k,32768", "ub=512,4096", "ctk=q8_0"]) == (
        {"ctx": 8192, "ub": 512, "ctk": "q8_0"},
        {"ctx": 8192, "ub": 4096, "ctk": "q8_0"},
        {"ctx": 32768, "ub": 512, "ctk": "q8_0"},
        {"ctx": 32768, "ub": 4096, "ctk": "q8_0"},
    )


def test_flags_own_names_and_words_are_taken_and_repeated_values_once() -> None:
    assert parse_settings(["-c=1024,1k", "ngl=auto,10", "optimize=prompt"]) == (
        {"ctx": 1024, "ngl": "auto", "optimize": "prompt"},
        {"ctx": 1024, "ngl": 10, "optimize": "prompt"},
    )


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["ctxx=1"], "did you mean ctx?"),
        (["gpu=1"], "did you mean gpus?"),
        (["ubtch=512"], "did you mean ub?"),
        (["zzz=1"], "--what-if ctx=8192"),
        (["ctk=q8"], "did you mean q8_0?"),
        (["optimize=decoding"], "did you mean decode?"),
        (["demo"], "a model's name stands before --what-if"),
        (["ctx=a"], "ctx is the tokens of context"),
        (["ctx="], "ctx is the tokens of context"),
        (["ub=0"], "ub is the tokens of a micro-batch"),
        (["gpus=-1"], "gpus is the number of GPUs"),
        (["ctx=1", "ctx=2"], "ctx=A,B takes all"),
        (["ctx=" + "9" * 5000], "ctx is the tokens of context"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_a_remedy(words: list[str], remedy: str) -> None:
    with pytest.raises(RequestError, match="--what-if") as error:
        parse_settings(words)
    assert any(remedy in line for line in error.value.remedies)


def test_too_many_rows_are_refused_with_how_many_there_may_be() -> None:
    numbers = ",".join(map(str, range(1, 30)))
    with pytest.raises(RequestError, match=f"841 rows; {MOST_ROWS} are the most"):
        parse_settings([f"ctx={numbers}", f"ub={numbers}"])


def test_rows_tell_bytes_speeds_and_what_is_short() -> None:
    small = made()
    full = replace(
        small,
        devices=tuple(
            replace(use, budget_bytes=use.total_bytes - 1024 * (use.name == "CUDA0"))
            for use in small.devices
        ),
    )
    plans = {1: replace(small, prediction=MEASURED), 2: replace(full, prediction=MEASURED)}
    outcomes = try_settings(({"ctx": 1}, {"ctx": 2}), lambda settings: plans[int(settings["ctx"])])
    rows = what_if_rows(outcomes)
    assert rows[0][-4:] == ["decode tok/s", "at the end", "prompt tok/s", "fits"]
    assert rows[1][-4:] == ["13.9", "11.9", "231", "yes"]
    assert rows[2][-4:] == ["-", "-", "-", "CUDA0 1.0 KiB short"]
    assert rows[2][2].endswith("!")
    assert shortage(small) is None


def test_plans_without_speeds_have_no_columns_for_them() -> None:
    silent = replace(made(), prediction=None)
    outcomes = try_settings(({"ctx": 1},), lambda _: silent)
    heads = [cell.split()[0] for cell in what_if_rows(outcomes)[0][-3:]]
    assert heads == ["CPU", "CUDA0", "fits"]


def test_a_setting_that_gives_no_plan_is_a_row_that_says_why() -> None:
    def make(settings: Settings) -> PlacementPlan:
        if settings["gpus"] == 1:
            raise RuleError("rule 1: unknown device 'CUDA1'", remedy="x")
        if settings["gpus"] == 2:
            raise DoesNotFit("it does not fit", "CUDA0 needs more", remedy="x")
        return made()

    text = what_if_text(try_settings(parse_settings(["gpus=1,2,3"]), make))
    assert "no plan: rule 1: unknown device 'CUDA1'\n" in text
    assert "CUDA0 needs more\n" in text
    assert text.endswith("yes\n")
    nothing = what_if_text(try_settings(parse_settings(["gpus=1"]), make))
    assert nothing.splitlines()[0] == "gpus  fits"


def test_many_gpus_have_one_column_the_fullest_ones() -> None:
    few, many = (Outcome({"ub": 16}, made_of(count), None) for count in (MOST_APART, 16))
    assert what_if_rows([few])[0][1:6] == ["CPU KiB", *(f"CUDA{i} KiB" for i in range(4))]
    heads, cells = what_if_rows([many])
    assert heads[1:3] == ["CPU KiB", "fullest GPU KiB"]
    assert many.plan is not None
    fullest = max(use.total_bytes for use in many.plan.devices[1:])  # all have one budget
    assert cells[2] == f"{fullest / 1024:.2f}"
