"""Bars hold their length and give a cell to what is largest in it."""

from hypothesis import given
from hypothesis import strategies as st

from hybrid.tui.bars import chart, coloured, folded, gauge, heights, marked, stacked
from hybrid.tui.lines import width_of
from hybrid.tui.look import UNICODE

SECONDS = st.floats(0, 1, allow_nan=False)


@given(SECONDS, SECONDS, SECONDS, st.integers(1, 80))
def test_a_bar_has_its_length_whatever_the_parts(
    experts: float, attention: float, rest: float, cells: int
) -> None:
    whole = experts + attention + rest
    bar = stacked({"experts": experts, "attention": attention}, whole, cells, UNICODE)
    assert width_of(bar) == cells
    more = stacked({"experts": experts, "attention": attention}, whole / 2, cells, UNICODE)
    assert width_of(more) == cells


def test_what_is_left_over_goes_to_the_largest_remainder() -> None:
    parts = {"experts": 0.06, "crossing": 0.01, "waiting": 0.93}
    assert stacked(parts, 1.0, 10, UNICODE) == [("█", "experts"), ("·" * 9, "waiting")]


def test_a_bar_of_less_than_the_whole_ends_blank() -> None:
    assert stacked({"experts": 0.5}, 1.0, 4, UNICODE) == [("██", "experts"), ("  ", "")]
    assert stacked({"experts": 0.5}, 0.0, 4, UNICODE) == [("    ", "")]


def test_a_mark_replaces_one_cell() -> None:
    assert marked([("abc", "x"), ("def", "y")], 3, "|") == [
        ("abc", "x"),
        ("|", "mark"),
        ("ef", "y"),
    ]


def test_an_absent_gauge_is_not_an_empty_one() -> None:
    assert gauge(None, 4, UNICODE) == [("    ", "")]
    assert gauge(0.0, 4, UNICODE) == [("····", "faint")]
    assert gauge(1.7, 4, UNICODE, "done") == [("████", "done")]


def test_heights_are_shares_of_the_highest() -> None:
    assert heights([0, 1, 4, 8], 8.0, UNICODE) == " ▂▅█"
    assert heights([1.0], 0.0, UNICODE) == " "


def test_a_chart_fills_its_rows_from_below() -> None:
    assert chart([0.0, 4.0, 10.0], 0.0, 10.0, 2, UNICODE) == ["  █", "▁▇█"]
    assert [len(row) for row in chart([1.0] * 7, 0.0, 2.0, 3, UNICODE)] == [7, 7, 7]


def test_neighbours_of_one_style_are_one_span() -> None:
    assert coloured("abcd", ["x", "x", "y", "y"]) == [("ab", "x"), ("cd", "y")]
    assert coloured("", []) == []


@given(st.integers(1, 300), st.integers(1, 100))
def test_folding_keeps_everything_in_order(count: int, cells: int) -> None:
    groups = folded(count, cells)
    assert [index for group in groups for index in group] == list(range(count))
    assert len(groups) <= cells
    assert len({len(group) for group in groups[:-1]}) <= 1
