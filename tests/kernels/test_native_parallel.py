import os
import signal
import threading
import time

import pytest
import torch

from kernels.native.parallel import SMALLEST_SHARE_WEIGHTS, over_rows, use_threads


@pytest.fixture
def four_threads():
    use_threads(4)
    yield
    use_threads(0)


def shares_of(rows, weights):
    lock, shares = threading.Lock(), []

    def run(begin, end):
        with lock:
            shares.append((begin, end))

    over_rows(run, rows, weights)
    return sorted(shares)


@pytest.mark.parametrize("rows", [4, 5, 7, 1000])
def test_shares_cover_every_row_once(four_threads, rows):
    shares = shares_of(rows, 100 * SMALLEST_SHARE_WEIGHTS)
    assert len(shares) == 4
    assert shares[0][0] == 0
    assert shares[-1][1] == rows
    assert all(left[1] == right[0] for left, right in zip(shares, shares[1:], strict=False))


def test_small_work_stays_in_one_piece(four_threads):
    assert shares_of(1000, 2 * SMALLEST_SHARE_WEIGHTS - 1) == [(0, 1000)]
    assert len(shares_of(1000, 2 * SMALLEST_SHARE_WEIGHTS)) == 2


def test_no_more_shares_than_rows(four_threads):
    assert shares_of(2, 100 * SMALLEST_SHARE_WEIGHTS) == [(0, 1), (1, 2)]
    assert shares_of(0, 0) == [(0, 0)]


def test_an_error_of_any_share_reaches_the_caller(four_threads):
    def run(begin, end):
        if begin:
            raise ValueError("share")

    with pytest.raises(ValueError, match="share"):
        over_rows(run, 4, 100 * SMALLEST_SHARE_WEIGHTS)


@pytest.mark.parametrize("raising", [0, 1], ids=["this thread's", "another's"])
def test_an_error_leaves_only_when_the_slow_shares_have_ended(four_threads, raising):
    started, ended = threading.Event(), []

    def run(begin, end):
        if begin == raising:
            started.wait(10)
            raise ValueError("share")
        started.set()
        time.sleep(0.2)
        ended.append(begin)

    with pytest.raises(ValueError, match="share"):
        over_rows(run, 4, 100 * SMALLEST_SHARE_WEIGHTS)
    assert sorted(ended) == sorted({0, 1, 2, 3} - {raising})


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_interrupts_of_the_waiting_leave_only_when_the_slow_share_has_ended(four_threads):
    interrupts, ended = [], []

    def interrupt(*_):
        interrupts.append(bool(ended))
        if len(interrupts) == 2:
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt

    def run(begin, end):
        if begin == 3:
            time.sleep(0.6)
            ended.append(begin)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.2)
        with pytest.raises(KeyboardInterrupt):
            over_rows(run, 4, 100 * SMALLEST_SHARE_WEIGHTS)
        assert interrupts == [False, False]
        assert ended == [3]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_threads_of_its_own(four_threads):
    shares_of(4, 100 * SMALLEST_SHARE_WEIGHTS)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for threads it does not have
        os._exit(0 if len(shares_of(4, 100 * SMALLEST_SHARE_WEIGHTS)) == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_native_calls_use_the_threads_they_are_given_and_else_as_many_as_torch():
    use_threads(3)
    try:
        assert shares_of(300, 1 << 24) == [(0, 100), (100, 200), (200, 300)]
    finally:
        use_threads(0)
    assert len(shares_of(300, 1 << 24)) == min(32, torch.get_num_threads())
