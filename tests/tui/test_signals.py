"""Signals that come while the main thread has nothing to do but wait."""

import signal
import threading
from collections.abc import Iterator
from time import sleep

import pytest

from hybrid.tui.lines_view import LinesView
from hybrid.tui.signals import wait_for

UNTIL_IT_WAITS_S, GIVEN_UP_S = 0.3, 8.0


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Numbers of SIGUSR1 as its handler, which the main thread runs, has seen them."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_another_thread_got_is_heard_while_waiting(heard: list[int]) -> None:
    done, was_heard = threading.Event(), []

    def other() -> None:
        sleep(UNTIL_IT_WAITS_S)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        sleep(1.0)
        was_heard.extend(heard)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    wait_for(done)
    thread.join()
    assert was_heard == [signal.SIGUSR1], "before the event came, not after"


def test_lines_that_nobody_ends_end_by_a_signal_that_another_thread_got() -> None:
    view = LinesView(lambda: None, every_s=0.25)
    before = signal.signal(signal.SIGUSR1, lambda *_: view.close())
    gave_up = threading.Event()
    late = threading.Timer(GIVEN_UP_S, lambda: (gave_up.set(), view.close()))
    late.start()
    try:
        view.start()
        killing = threading.Timer(
            UNTIL_IT_WAITS_S,
            lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1),
        )
        killing.start()
        view.wait()
        assert not gave_up.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        late.cancel()
        late.join()
