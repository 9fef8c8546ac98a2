import numpy as np
import pytest

from tools.conformance.demo import compare_steps
from tools.conformance.models import EXACT, conventions_of, first_part
from tools.conformance.rows import Limits, Row, compare_logits

REFERENCE = np.random.default_rng(3).normal(size=(5, 16)) * 2


def test_equal_logits_pass_with_zero_differences() -> None:
    row = compare_logits("same", REFERENCE, REFERENCE, EXACT)
    assert row.passed
    assert (row.cases, row.max_abs, row.nmse, row.top1) == (5, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("difference", [3e-4, np.nan])
def test_a_difference_out_of_bounds_or_a_nan_fails(difference: float) -> None:
    got = REFERENCE.copy()
    got[2, 7] += difference
    row = compare_logits("one off", got, REFERENCE, EXACT)
    assert not row.passed
    assert "max abs" in row.failed


def test_another_top_token_counts_only_where_the_reference_is_clear() -> None:
    reference = np.array([[0.0, 1.0, 1.05]])
    got = np.array([[0.0, 1.05, 1.0]])
    assert compare_logits("near tie", got, reference, Limits(gap=0.1)).passed
    assert compare_logits("clear", got, reference, Limits(gap=0.01)).failed == ("top-1",)


def test_a_wrong_shape_is_a_failed_row() -> None:
    assert not compare_logits("short", REFERENCE[:4], REFERENCE, EXACT).passed


def test_a_row_without_cases_does_not_pass() -> None:
    assert not Row("empty", 0).passed


def test_greedy_comparison_ends_at_an_unclear_step_and_fails_at_a_clear_one() -> None:
    margins = [1.0, 0.05, 1.0]
    assert compare_steps([4, 5, 6], [4, 5, 6], margins) == (3, None)
    assert compare_steps([4, 9, 9], [4, 5, 6], margins) == (1, None)
    assert compare_steps([9, 5, 6], [4, 5, 6], margins) == (0, 0)
    assert compare_steps([4], [4, 5, 6], margins) == (1, 1)


def test_parts_of_a_split_file_share_the_first_ones_goldens() -> None:
    assert first_part("v3-Q8_0-00003-of-00004") == "v3-Q8_0-00001-of-00004"
    assert first_part("v3-Q8_0") == "v3-Q8_0"


def test_further_parts_of_a_split_file_run_once() -> None:
    assert len(conventions_of("v3-Q8_0-00001-of-00004")) == len(conventions_of("v3-Q8_0")) == 2
    assert len(conventions_of("v3-Q8_0-00003-of-00004")) == 1
