from math import ceil

import pytest

from hybrid.runtime.timing import FEWEST, MOST_OF_HOST_S, MOST_PASSES, SHARE, Intervals, PassCost


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


def cost_of(pairs, known_s=0.0):
    """Passes without and with measuring, in turn: what the last one is said to have cost."""
    cost, found = PassCost(), None
    for plain_s, measured_s in pairs:
        cost.plain(plain_s)
        found = cost.measured(measured_s, known_s)
    return found


def test_a_pass_costs_what_it_takes_longer_than_the_one_before_it():
    pairs = [(1.0, 1.00005), (2.0, 2.00003), (1.5, 1.50004), (1.0, 9.0), (1.0, 1.00002)]
    assert cost_of(pairs) == pytest.approx(40e-6)
    assert cost_of(pairs[: FEWEST - 1], 7e-6) == 7e-6, "too few"
    assert cost_of(pairs, 45e-6) == 45e-6, "known"


def test_uneven_passes_are_not_taken_for_the_cost_of_measuring():
    assert cost_of([(1.0, 1.5)] * 8, 7e-6) == pytest.approx(7e-6 + MOST_OF_HOST_S)
    assert cost_of([(1.5, 1.0)] * 8, 7e-6) == 7e-6


def test_a_measured_pass_with_none_before_it_is_compared_with_nothing():
    cost = PassCost()
    cost.plain(1.0)
    assert [cost.measured(1.00005, 3e-6) for _ in range(2 * FEWEST)] == [3e-6] * 2 * FEWEST
