"""Spans are cut and padded by cells of the terminal, and obey nothing that a model writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.tui.lines import apart, beside, clean, fitted, joined, width_of, wrapped_end

TEXTS = st.text(alphabet="ab 灯é█\n", max_size=60)


@given(st.lists(TEXTS, max_size=5), st.integers(0, 40))
def test_a_fitted_line_has_its_width(texts: list[str], width: int) -> None:
    line = [(text.replace("\n", ""), "") for text in texts]
    assert width_of(fitted(line, width)) == width


def test_a_cut_line_says_so() -> None:
    assert fitted([("abcdef", "strong")], 4, "…") == [("abc", "strong"), ("…", "faint")]
    assert fitted([("灯台守", "")], 4, "") == [("灯台", "")]


def test_the_right_end_stays_when_the_left_one_is_cut() -> None:
    line = apart([("a long name", "")], [("end", "")], 8, "…")
    assert "".join(text for text, _ in line) == "a lo…end"


def test_parts_that_do_not_fit_wholly_are_left_out() -> None:
    parts = [[("one", "")], [("three", "")], [("x", "")]]
    assert joined(parts, ", ", 8) == [("one", "")]
    assert joined(parts, ", ", 10) == [("one", ""), (", ", "faint"), ("three", "")]


def test_columns_are_filled_up_to_the_same_height() -> None:
    block = beside([[("ab", "")]], [[("c", "")], [("d", "")]], 2, 1)
    assert ["".join(text for text, _ in line) for line in block] == ["ab c", "   d"]


@pytest.mark.parametrize(
    "text", ["\x1b[2Jgone", "\x1b]0;title\x07gone", "g\x00on\x7fe", "\x1bcgone", "\u202egone"]
)
def test_what_a_terminal_would_obey_is_taken_out(text: str) -> None:
    assert not set(clean(text)) & set("\x00\x07\x1b\x7f\u202e")
    assert clean(text).endswith("gone")


@given(TEXTS, st.integers(1, 20), st.integers(1, 6))
def test_the_end_of_a_text_fits_its_panel(text: str, width: int, height: int) -> None:
    lines = wrapped_end(text, width, height)
    assert len(lines) <= height
    assert all(width_of([(line, "")]) <= max(width, 2) for line in lines)


def test_a_text_is_broken_between_words_and_its_end_is_shown() -> None:
    assert wrapped_end("one two three four", 9, 5) == ["one two", "three", "four"]
    assert wrapped_end("one two three four", 9, 1) == ["four"]
    assert wrapped_end("a\n\nb", 9, 5) == ["a", "", "b"]
