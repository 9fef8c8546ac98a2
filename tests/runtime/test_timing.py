from math import ceil

import pytest

from hybrid.runtime.timing import MOST_PASSES, SHARE, Intervals


def measured(cost_s, pass_s, passes):
    """Which of so many passes are measured."""
    intervals, found = Intervals(), []
    for number in range(passes):
        if intervals.due():
            found.append(number)
            intervals.took(cost_s, pass_s)
    return found


@pytest.mark.parametrize("cost_s", [1e-7, 1e-5, 7e-5, 3e-4])
def test_measuring_takes_no_more_than_its_share(cost_s):
    pass_s, passes = 1e-3, 10_000
    count = len(measured(cost_s, pass_s, passes))
    assert count * cost_s <= SHARE * passes * pass_s + cost_s
    assert count >= passes / (cost_s / (SHARE * pass_s) + 1)


def test_the_first_pass_is_measured_and_all_where_it_costs_nothing():
    assert measured(0.0, 1.0, 5) == [0, 1, 2, 3, 4]


def test_however_dear_it_is_measured_again_in_the_end():
    assert measured(1.0, 1e-3, MOST_PASSES + 2) == [0, MOST_PASSES]


def test_a_dear_first_pass_does_not_count_for_ever():
    intervals = Intervals()
    assert intervals.due()
    intervals.took(1.0, 1.0)
    waited = 0
    while not intervals.due():
        waited += 1
    assert waited == ceil(1 / SHARE) - 1
    intervals.took(0.0, 1.0)
    assert intervals.due()
