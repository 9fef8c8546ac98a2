"""The newest snapshot of a run that is watched, for a screen that must not wait for the next."""

import threading

from hybrid.live.client import Attached
from hybrid.live.snapshot import Snapshot


class Newest:
    """A source for `hybrid.tui`: call it for the newest snapshot, None before the first.

    Raises EOFError once there will be no more and the last one was given; `attached.ending` tells
    why then.
    """

    def __init__(self, attached: Attached) -> None:
        self.attached = attached
        self._snapshot: Snapshot | None = None
        self._is_over = self._is_last_given = False
        threading.Thread(target=self._follow, name="hybrid watcher", daemon=True).start()

    def __call__(self) -> Snapshot | None:
        if self._is_over:
            if self._is_last_given or self._snapshot is None:
                raise EOFError
            self._is_last_given = True
        return self._snapshot

    def _follow(self) -> None:
        for snapshot in self.attached:
            self._snapshot = snapshot
        self._is_over = True
