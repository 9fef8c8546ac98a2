from dataclasses import replace

import pytest

from placement.prediction import Pace
from placement.report.speed import limit_lines, milliseconds, speed_rows, time_rows
from placement.units import rate
from tests.placement.golden_reports import MEASURED


@pytest.mark.parametrize(
    ("number", "text"), [(0.413, "0.41"), (13.94, "13.9"), (231.4, "231"), (30812.0, "30812")]
)
def test_rates_have_the_digits_that_a_reader_needs(number: float, text: str) -> None:
    assert rate(number) == text


def test_milliseconds_of_microseconds_are_not_zero() -> None:
    assert milliseconds(0.0719) == "71.90"
    assert milliseconds(0.0000312) == "0.0312"


def test_each_depth_has_its_column_also_where_only_decoding_reaches() -> None:
    assert speed_rows(MEASURED) == [
        ["at depth", "0", "16384", "32767"],
        ["decode tok/s", "13.9", "12.8", "11.9"],
        ["prompt tok/s", "231", "190", "-"],
    ]


def test_parts_of_a_token_are_in_their_order_and_those_of_no_time_left_out() -> None:
    rows = time_rows(MEASURED)
    assert [row[0] for row in rows[1:]] == [
        "GPU attention",
        "GPU products",
        "CPU experts",
        "PCIe",
        "crossing",
        "together",
    ]
    assert rows[0] == ["ms a token", "decode at 0", "decode at 32767", "prompt of 2048"]
    assert rows[3][1] == "63.10  88 %"
    assert rows[-1][1] == "71.90 100 %"


def test_a_single_depth_is_shown_once_and_no_prompt_not_at_all() -> None:
    one = replace(MEASURED, decode=MEASURED.decode[:1], prompt=())
    assert time_rows(one)[0] == ["ms a token", "decode at 0"]
    assert len(speed_rows(one)) == 2


def test_quick_tokens_are_told_in_microseconds() -> None:
    quick = replace(
        MEASURED, decode=(Pace(0, 1, 700.0, {"GPU products": 0.0012, "host": 0.00016}),), prompt=()
    )
    assert time_rows(quick) == [
        ["us a token", "decode at 0"],
        ["GPU products", "1200.0  88 %"],
        ["host", "160.0  12 %"],
        ["together", "1360.0 100 %"],
    ]


def test_estimated_speeds_say_how_to_do_better() -> None:
    assert "doctor" not in " ".join(limit_lines(MEASURED))
    guess = replace(MEASURED, source="estimated", error=0.4)
    assert limit_lines(guess)[1] == (
        "speeds: estimated; right within 40 %: hybrid doctor --measure narrows this to about 15 %"
    )
    there = replace(MEASURED, source="preset 2x3090, estimated")
    assert (
        "; about 15 % from speeds measured there: hybrid doctor --measure --save"
        in limit_lines(there)[1]
    )
