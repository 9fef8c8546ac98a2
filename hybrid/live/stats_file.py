"""--stats-json: a snapshot a second, one line of JSON each, for machines.

The text and what grows without telling more a second is left out: past rates, counts of experts.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from hybrid.errors import OutputError, UsageError
from hybrid.live.codec import to_line
from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Snapshot
from hybrid.live.sources.ticker import Ticker

EVERY_S = 1.0


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
            # Unbuffered: a line is there when it is written, and nothing is left over that fails.
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115  open for the run
        except (OSError, ValueError) as error:
            raise OutputError(
                f"--stats-json {path} cannot be written",
                getattr(error, "strerror", None) or str(error),
                remedy="name a file in a folder that exists and may be written",
            ) from error
        self._live: LiveRun | None = None
        self._ticker: Ticker | None = None
        self._failed = False

    def serve(self, live: LiveRun) -> None:
        """From now on, until `stop`."""
        self._live = live
        if self._ticker is None:
            self._ticker = Ticker("hybrid stats file", EVERY_S, self._write)

    def stop(self) -> None:
        """With one line more, of now."""
        if self._ticker is not None:
            self._ticker.stop()
            self._write()
        self._file.close()

    def __enter__(self) -> "StatsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _write(self) -> None:
        if self._live is None or self._failed:
            return
        try:
            rest = memoryview(to_line(for_file(self._live.snapshot())))
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        except (OSError, ValueError) as error:
            self._failed = True
            why = getattr(error, "strerror", None) or str(error)
            self._note(f"--stats-json {self._path} is written no more: {why}")


def for_file(snapshot: Snapshot) -> Snapshot:
    """Without what the file leaves out."""
    return replace(
        snapshot,
        text="",
        rates=replace(snapshot.rates, history=()),
        layers=tuple(replace(layer, usage=()) for layer in snapshot.layers),
    )
