"""The view where there is no screen: `plain_line` once in a while."""

import sys
import threading
from math import inf
from time import monotonic
from typing import TextIO

from hybrid.live.snapshot import Snapshot
from hybrid.tui.plain import plain_line
from hybrid.tui.signals import wait_for
from hybrid.tui.view import GONE, Source

EVERY_S = 1.0


class LinesView:
    """Of one source. Nothing to suspend: lines are lines.

    every_s   None: the last line alone, after an end of line, as the text may have none
    stream    stderr unless another is named
    """

    failure: Exception | None = None
    left_by_user = False

    def __init__(
        self, source: Source, every_s: float | None = EVERY_S, stream: TextIO | None = None
    ) -> None:
        self._source, self._stream = source, stream
        self._every_s = inf if every_s is None else every_s
        self._begin = "\n" if every_s is None else ""
        self._newest: Snapshot | None = None
        self._is_gone = False
        self._closing, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="hybrid-view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """The last figures as a last line, then no more."""
        self._closing.set()
        self._ended.wait(1.0)

    def suspend(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def wait(self) -> None:
        """Until the source is gone, or whoever reads the lines."""
        wait_for(self._ended)

    def _run(self) -> None:
        try:
            self._loop()
        except (OSError, ValueError):  # nobody reads the lines
            pass
        finally:
            self._ended.set()

    def _loop(self) -> None:
        """Figures are taken more often than said where lines are rare: the last may be the end."""
        first_s = min(self._every_s, EVERY_S) if self._every_s < inf else inf
        due, said = monotonic() + first_s, None
        while not self._is_gone:
            ends = self._closing.wait(max(min(due - monotonic(), EVERY_S), 0.0))
            self._take()
            ends = ends or self._is_gone
            if (ends or monotonic() >= due) and self._newest is not said:
                self._say()
                said = self._newest
            if ends:
                return
            if monotonic() >= due:
                due = monotonic() + (self._every_s if said is not None else first_s)

    def _take(self) -> None:
        try:
            newest = self._source()
        except GONE:
            self._is_gone = True
        else:
            self._newest = newest or self._newest

    def _say(self) -> None:
        if self._newest is not None:
            stream = self._stream or sys.stderr
            stream.write(f"{self._begin}{plain_line(self._newest)}\n")
            stream.flush()
