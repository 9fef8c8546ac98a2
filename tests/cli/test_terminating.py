"""SIGTERM: an exit code and cleaning up, and a second one that ends at once."""

import signal
import threading

import pytest

from hybrid.cli.terminating import TERMINATED, terminated_in_order


def test_what_is_open_is_closed_and_the_handler_of_before_is_back():
    before, closed = signal.getsignal(signal.SIGTERM), []

    def work():
        with terminated_in_order():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                closed.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == TERMINATED == 143
    assert closed == [before]  # a second one ends the process at once
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_program_that_ignores_it_goes_on_to():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminated_in_order():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_leaves_signals_alone():
    found = []

    def inside():
        with terminated_in_order():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
