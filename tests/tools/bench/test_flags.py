"""What benches take on their command lines."""

import argparse

import pytest

from tools.bench.flags import counts, positive


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", ""])
def test_a_count_is_a_whole_number_above_zero(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number above 0"):
        positive(text)


def test_counts_keep_their_order_and_each_stands_once():
    assert counts("64,1,64,8") == [64, 1, 8]
