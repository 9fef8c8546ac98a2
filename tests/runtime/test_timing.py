from math import ceil
from types import SimpleNamespace

import pytest

from hybrid.runtime import timing
from hybrid.runtime.stats import Meter, StepStats
from hybrid.runtime.timing import (
    FEWEST,
    MOST_OF_HOST_S,
    MOST_PASSES,
    SHARE,
    Intervals,
    PassCost,
    Timing,
)
from placement.machines.cpus import ThreadCpus
from tests.runtime.listeners import Ear


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


def host_s(pairs, known_s=0.0):
    """Passes without and with measuring, in turn: what the host spent on the last, as is said."""
    cost, found = PassCost(), None
    for plain_s, measured_s in pairs:
        cost.plain(plain_s)
        found = cost.of_host(measured_s, known_s)
    return found


def test_the_host_spends_what_a_pass_takes_longer_than_the_one_before_it():
    pairs = [(1.0, 1.00005), (2.0, 2.00003), (1.5, 1.50004), (1.0, 9.0), (1.0, 1.00002)]
    assert host_s(pairs) == pytest.approx(40e-6)
    assert host_s(pairs, 15e-6) == pytest.approx(25e-6), "known"
    assert host_s(pairs[: FEWEST - 1]) == 0, "too few"


def test_uneven_passes_are_not_taken_for_the_cost_of_measuring():
    assert host_s([(1.0, 1.5)] * 8, 7e-6) == pytest.approx(MOST_OF_HOST_S)
    assert host_s([(1.5, 1.0)] * 8, 7e-6) == 0
    assert host_s([(1.0, 1.00005), (1.0, 0.99)] * 8) == 0, "as many shorter ones"


def test_a_measured_pass_with_none_just_before_it_is_compared_with_nothing():
    cost = PassCost()
    cost.plain(1.0)
    assert [cost.of_host(1.00005, 0.0) for _ in range(2 * FEWEST)] == [0] * 2 * FEWEST


class Chosen(Intervals):
    """Measures what it is told to."""

    def __init__(self):
        super().__init__()
        self.next = False

    def due(self):
        return self.next

    def took(self, cost_s, pass_s):
        pass


def test_measured_passes_are_compared_with_tokens_just_before_them(monkeypatch):
    """A measured token takes 40 us longer, of which its GPU tells 10; some come behind a prompt."""
    workers = SimpleNamespace(
        clocks=lambda _: None, threads=lambda: 1, experts_seconds=lambda _: []
    )
    monkeypatch.setattr(timing, "pool", workers)
    meter, ear, intervals = Meter(), Ear(), Chosen()
    found = Timing(meter, 1, ThreadCpus((0,), (0,), (0,), ()))
    found.listeners.add(ear)
    found._intervals = {True: Chosen(), False: intervals}

    def passed(seconds, *, prompt=False, measured=False):
        intervals.next = measured
        found.begin(prompt=prompt)
        if measured:
            meter.ledger.turn("CUDA0", "other", 0.5)
            meter.ledger.measuring("CUDA0", 10e-6)
        found.end(StepStats(1, 0, seconds, {}, 0), prompt=prompt)

    for _ in range(FEWEST):
        passed(1.0)
        passed(1.00004, measured=True)
        passed(1.0)
        passed(7.0, prompt=True)
        passed(1.5, measured=True)
    costs = [times.measuring_s for _, _, times in ear.times]
    assert costs == pytest.approx([10e-6] * 2 * (FEWEST - 1) + [40e-6] * 2)
