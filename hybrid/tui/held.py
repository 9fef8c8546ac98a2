"""What the program prints while the screen is on the same terminal: kept, and printed after it.

    sys.stdout, sys.stderr ──> HeldStream ──screen on──> Held ──screen off──> the streams

A stream that is no terminal is left alone: a pipe gets its text when it is written.
"""

import contextlib
import io
import sys
import threading
from typing import TextIO


class Held:
    """Both streams' text in the order it was written. `take` begins, `release` ends."""

    def __init__(self) -> None:
        self._pieces: list[tuple[TextIO, str]] = []
        self._streams: list[tuple[str, HeldStream]] = []
        self._lock = threading.RLock()  # a signal's code may interrupt a write, and release
        self._holds = False

    def take(self) -> None:
        with self._lock:
            self._holds = True
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if not isinstance(stream, HeldStream) and _is_terminal(stream):
                    held = HeldStream(self, stream, may_draw=name == "stdout")
                    self._streams.append((name, held))
                    setattr(sys, name, held)

    def release(self) -> None:
        """Put the streams back and print what was kept."""
        with self._lock:
            self._holds = False
            for name, held in self._streams:
                if getattr(sys, name) is held:
                    setattr(sys, name, held.stream)
            self._streams = []
            pieces, self._pieces = self._pieces, []
            for stream, text in pieces:
                with contextlib.suppress(OSError, ValueError):  # a terminal that has hung up
                    stream.write(text)
            for stream in {id(stream): stream for stream, _ in pieces}.values():
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()

    def write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            if self._holds:
                self._pieces.append((stream, text))
            else:
                stream.write(text)


class HeldStream(io.TextIOBase):
    """Stands in for `stream`. may_draw   what it says to who asks whether it is a terminal: a
    progress bar on stderr would be kept frame by frame.
    """

    def __init__(self, held: Held, stream: TextIO, *, may_draw: bool) -> None:
        super().__init__()
        self.stream = stream
        self._held = held
        self._may_draw = may_draw

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.stream.errors

    def write(self, text: str) -> int:
        self._held.write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self._may_draw and self.stream.isatty()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """The stream behind it belongs to the process, and stays open."""


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
