"""Rates of stretches of the past, for passes of any length."""

import pytest

from hybrid.live.rate_ring import HISTORY_S, RateRing


def test_a_rate_is_tokens_over_the_time_inside_passes():
    ring = RateRing()
    for step in range(20):
        ring.add(100.0 + 0.1 * step, 0.05, 1)  # half of the time between passes is not theirs
    assert ring.rate(102.0, 1.0) == pytest.approx(20.0)


def test_a_pass_longer_than_a_slot_counts_in_every_second_that_it_took():
    ring = RateRing()
    ring.add(106.5, 6.0, 3)
    assert ring.history(107.0) == pytest.approx([0.5] * 7)
    assert ring.rate(106.5, 1.0) == pytest.approx(0.5)


def test_what_is_older_than_asked_for_does_not_count():
    ring = RateRing()
    ring.add(100.0, 1.0, 10)
    ring.add(108.0, 1.0, 100)
    assert ring.rate(108.0, 2.0) == pytest.approx(100.0)
    assert ring.rate(108.0, 10.0) == pytest.approx(55.0)
    assert ring.rate(130.0, 10.0) is None


def test_stretches_know_the_depth_of_their_tokens():
    ring = RateRing()
    ring.add(100.1, 0.1, 1, start=10)
    ring.add(100.2, 0.1, 3, start=50)
    ring.add(103.0, 0.5, 4, start=90)
    [first, *others] = ring.stretches(103.0, 10.0)
    assert (first.start, first.tokens, first.seconds) == (40, 4, pytest.approx(0.2))
    assert {its.start for its in others} == {90}
    assert sum(its.tokens for its in others) == pytest.approx(4)
    assert [its.start for its in ring.stretches(103.0, 1.0)] == [90, 90]
    assert ring.stretches(130.0, 10.0) == ()


@pytest.mark.parametrize("passes", [1, 8])
def test_stretches_leave_the_first_tokens_out(passes):
    ring = RateRing(warm_up=8)
    for number in range(passes):
        ring.add(100.1 + 0.001 * number, 0.01, 8 // passes, start=number)
    assert ring.stretches(100.2, 10.0) == ()
    ring.add(100.2, 0.002, 2, start=40)
    [its] = ring.copy().stretches(100.2, 10.0)
    assert (its.start, its.tokens, its.seconds) == (40, 2, pytest.approx(0.002))
    ring.add(103.0, 2.0, 4, start=90)
    assert sum(its.tokens for its in ring.stretches(103.0, 10.0)) == pytest.approx(6)
    assert ring.rate(103.0, 10.0) == pytest.approx(14 / (0.01 * passes + 0.002 + 2.0))


def test_history_has_whole_seconds_from_the_first_pass_and_zero_where_nothing_was_decoded():
    ring = RateRing()
    assert ring.history(50.0) == ()
    ring.add(100.5, 0.2, 4)
    ring.add(103.9, 0.2, 2)
    assert ring.history(104.2) == pytest.approx([20.0, 0.0, 0.0, 10.0])


def test_the_ring_forgets_what_it_has_no_room_for():
    ring = RateRing()
    for second in range(1000):
        ring.add(second + 0.5, 0.5, second)
    history = ring.history(1000.0)
    assert len(history) == HISTORY_S
    assert history[0] == pytest.approx(2 * (1000 - HISTORY_S))


def test_a_pass_longer_than_the_ring_keeps_its_rate():
    ring = RateRing()
    ring.add(2000.0, 1500.0, 3000)
    assert ring.rate(2000.0, 10.0) == pytest.approx(2.0)


def test_a_copy_stays_as_it_was():
    ring = RateRing()
    ring.add(100.0, 0.1, 1)
    copy = ring.copy()
    ring.add(100.1, 0.1, 99)
    assert copy.rate(100.1, 1.0) == pytest.approx(10.0)
