"""--stats-json: a snapshot a second, one line of JSON each, for machines.

The text and what grows without telling more a second is left out: past rates, counts of experts.

A pipe whose reader stops reading costs the run nothing: lines that it has no room for are dropped,
whole; of one that went half, the rest goes first.
"""

import os
import select
import stat
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from types import TracebackType

from hybrid.errors import OutputError, UsageError
from hybrid.live.codec import to_line
from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Snapshot
from hybrid.live.sources.ticker import Ticker

EVERY_S = 1.0
LAST_WORDS_S = 0.5  # that the end of a run waits for a reader to take the last line


class StatsFile:
    """The file is opened, and emptied, when this is made, before any loading.

    note   told once why nothing more is written, when a write fails; the run goes on

    Raises UsageError for `-`, OutputError for a file that cannot be written.
    """

    def __init__(self, path: str, note: Callable[[str], None]) -> None:
        if path == "-":
            raise UsageError(
                "--stats-json - would mix with what the command prints",
                remedy="--stats-json FILE; /dev/stderr is one, and so is a named pipe",
            )
        self._path, self._note = path, note
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"--stats-json {path} cannot be written",
                getattr(error, "strerror", None) or str(error),
                remedy="name a file in a folder that exists and may be written",
            ) from error
        _never_wait(self._file)
        self._rest = memoryview(b"")  # of a line that has begun
        self._live: LiveRun | None = None
        self._ticker: Ticker | None = None
        self._failed = False

    def serve(self, live: LiveRun) -> None:
        """From now on, until `stop`."""
        self._live = live
        if self._ticker is None:
            self._ticker = Ticker("hybrid stats file", EVERY_S, self._write)

    def stop(self) -> None:
        """With one line more, of now, where the reader takes it at once."""
        if self._ticker is not None:
            if not self._ticker.stop():
                return  # a disc holds its write: another would wait behind it
            self._write(LAST_WORDS_S)
        os.close(self._file)

    def __enter__(self) -> "StatsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _write(self, patience_s: float = 0.0) -> None:
        """A line of now; none while there is no room for the one before."""
        if self._live is None or self._failed:
            return
        try:
            until = monotonic() + patience_s
            if self._has_sent_rest(until):
                line = memoryview(to_line(for_file(self._live.snapshot())))
                self._rest = line
                if not self._has_sent_rest(until) and len(self._rest) == len(line):
                    self._rest = memoryview(b"")  # the next one is newer
        except (OSError, ValueError) as error:
            self._failed = True
            why = getattr(error, "strerror", None) or str(error)
            self._note(f"--stats-json {self._path} is written no more: {why}")

    def _has_sent_rest(self, until: float) -> bool:
        """Whether all of the line that has begun is written."""
        while self._rest:
            try:
                self._rest = self._rest[os.write(self._file, self._rest) :]
            except BlockingIOError:
                room = select.poll()
                room.register(self._file, select.POLLOUT)
                if not room.poll(1e3 * max(until - monotonic(), 0.0)):
                    return False
        return True


def _never_wait(descriptor: int) -> None:
    """Writes to what may have no room end at once; a file's end when they are done."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, False)


def for_file(snapshot: Snapshot) -> Snapshot:
    """Without what the file leaves out."""
    return replace(
        snapshot,
        text="",
        rates=replace(snapshot.rates, history=()),
        layers=tuple(replace(layer, usage=()) for layer in snapshot.layers),
    )
