import math

import pytest
import torch

from kernels.testing import assert_close, assert_same_bits, compare, poisoned_memory


def test_compare_names_the_place_of_the_largest_difference():
    expected = torch.ones(2, 3)
    got = expected.clone()
    got[1, 2] = 3
    difference = compare(got, expected)
    assert difference.where == (1, 2)
    assert (difference.got, difference.expected) == (3, 1)
    assert difference.relative_error == pytest.approx(2 / math.sqrt(6))
    assert "[1, 2]: 3.0 for 1.0" in str(difference)


def test_one_nan_fails_and_is_named():
    got = torch.ones(2, 3)
    got[0, 1] = torch.nan
    with pytest.raises(AssertionError, match=r"\[0, 1\]: nan"):
        assert_close(got, torch.ones(2, 3), 1.0)


def test_other_shapes_fail_even_where_they_would_broadcast():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.ones(1, 3), torch.ones(2, 3), 1.0)


def test_same_bits_tells_zeros_apart_and_takes_any_nan_for_any():
    quiet = torch.tensor([0x7FC00000, 0x7F800001], dtype=torch.int32).view(torch.float32)
    assert_same_bits(quiet, torch.full((2,), torch.nan))
    with pytest.raises(AssertionError, match=r"1 of 2 values differ, first at \[1\]"):
        assert_same_bits(torch.tensor([1.0, -0.0]), torch.tensor([1.0, 0.0]))


def test_fresh_memory_is_poisoned_inside_only():
    torch.use_deterministic_algorithms(False)
    with poisoned_memory():
        assert torch.empty(1000).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
