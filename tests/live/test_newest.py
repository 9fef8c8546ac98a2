"""A screen's source: the newest snapshot at once, and an end after the last one."""

import threading

import pytest

from hybrid.live.newest import Newest
from tests.live.waiting import PATIENCE_S, until


class Attached:
    """Gives what the test sends, in order; None ends it."""

    def __init__(self):
        self._sent, self._event = [], threading.Event()

    def send(self, *snapshots):
        self._sent += snapshots
        self._event.set()

    def __iter__(self):
        return self

    def __next__(self):
        while not self._sent:
            self._event.wait(PATIENCE_S)
            self._event.clear()
        snapshot = self._sent.pop(0)
        if snapshot is None:
            raise StopIteration
        return snapshot


def test_it_never_waits_and_gives_the_newest():
    attached = Attached()
    newest = Newest(attached)
    assert newest() is None
    attached.send("first", "second", "third")
    until(lambda: newest() == "third")
    assert newest() == "third"


def test_the_last_one_is_given_before_the_end_is_told():
    attached = Attached()
    newest = Newest(attached)
    attached.send("last", None)
    until(lambda: newest._is_over)
    assert newest() == "last"
    for _ in range(2):
        with pytest.raises(EOFError):
            newest()


def test_a_run_that_says_nothing_is_an_end():
    attached = Attached()
    newest = Newest(attached)
    attached.send(None)
    until(lambda: newest._is_over)
    with pytest.raises(EOFError):
        newest()
