"""The view where there is no terminal: `plain_line` once a second on stderr."""

import sys
import threading

from hybrid.tui.plain import plain_line
from hybrid.tui.view import GONE, Source

EVERY_S = 1.0


class LinesView:
    """Of one source. Nothing to suspend: lines are lines."""

    failure: Exception | None = None
    left_by_user = False

    def __init__(self, source: Source, every_s: float = EVERY_S) -> None:
        self._source = source
        self._every_s = every_s
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
        """Until the source is gone."""
        self._ended.wait()

    def _run(self) -> None:
        try:
            while not self._closing.wait(self._every_s):
                self._say()
            self._say()
        except (*GONE, ValueError):  # no more figures, or nobody who reads the lines
            pass
        finally:
            self._ended.set()

    def _say(self) -> None:
        snapshot = self._source()
        if snapshot is not None:
            sys.stderr.write(plain_line(snapshot) + "\n")
            sys.stderr.flush()
