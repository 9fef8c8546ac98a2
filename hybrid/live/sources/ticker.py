"""A thread that does one thing now and again, and stops when told."""

import threading
from collections.abc import Callable
from time import monotonic

STOP_S = 2.0  # a driver may hold a call that long; the thread is a daemon and keeps nobody


class Ticker:
    """Calls `tick` at once and then every so many seconds, on a thread of its own, until `stop`.

    tick   raises nothing; one that takes longer than its turn misses turns
    """

    def __init__(self, name: str, every_s: float, tick: Callable[[], None]) -> None:
        self._every_s, self._tick = every_s, tick
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """No tick begins after this.

        returns   whether none goes on either
        """
        self._told.set()
        if self._thread is threading.current_thread():
            return False
        self._thread.join(STOP_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        due = monotonic()
        while not self._told.is_set():
            self._tick()
            due = max(due + self._every_s, monotonic())
            self._told.wait(due - monotonic())
