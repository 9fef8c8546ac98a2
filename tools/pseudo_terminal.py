"""A program on a terminal of its own, driven by keys: what it wrote, and the terminal's modes."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The new session's leader takes the terminal as its own, then becomes the program. Its keys are
# heard also where a shell has started all this in the background, with signals ignored.
_BEGIN = """import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])"""
ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
PATIENCE_S = 60.0  # with machines that are busy elsewhere


class TooLate(Exception):
    """What was waited for has not come about."""


class PseudoTerminal:
    """`with PseudoTerminal("python", "-m", ...) as terminal`: the program ends with the block."""

    def __init__(self, *command: str, size: tuple[int, int] = (80, 24), **environment: str) -> None:
        self._ours, self.theirs = pty.openpty()
        self.resize(*size)
        self.before = self.modes()
        self.text = ""
        told = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
        changes = ["-u", "NO_COLOR", *(f"{name}={value}" for name, value in told.items())]
        self.program = subprocess.Popen(
            ["env", *changes, sys.executable, "-c", _BEGIN, *command],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            cwd=ROOT,
        )

    def __enter__(self) -> "PseudoTerminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.program.poll() is None:
            os.killpg(self.program.pid, signal.SIGKILL)
            self.program.wait()
        os.close(self._ours)
        os.close(self.theirs)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read(self, seconds: float) -> str:
        """All that is written in the next `seconds`, and kept in `text`."""
        end = time.monotonic() + seconds
        found = b""
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._ours], [], [], left)
            if ready:
                found += os.read(self._ours, 1 << 16)
        self.text += found.decode("utf-8", "replace")
        return found.decode("utf-8", "replace")

    def read_until(self, wanted: str, seconds: float = PATIENCE_S) -> str:
        """What is written until `wanted` has come. Raises TooLate."""
        end = time.monotonic() + seconds
        found = ""
        while wanted not in found:
            if time.monotonic() > end:
                raise TooLate(f"{wanted!r} did not come: {found[-2000:]!r}")
            found += self.read(0.05)
        return found

    def read_till(self, told: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        """Until `told` says so. Raises TooLate."""
        end = time.monotonic() + seconds
        while not told():
            if time.monotonic() > end:
                raise TooLate(f"it did not come about: {self.text[-2000:]!r}")
            self.read(0.05)

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """The exit code; negative for a signal. What was written until then is read.

        Raises TooLate, with what Python's faulthandler says of threads, if the program has it.
        """
        end = time.monotonic() + seconds
        while self.program.poll() is None:
            if time.monotonic() > end:
                self.text = ""
                self.program.send_signal(signal.SIGABRT)
                self.read(1.0)
                raise TooLate(f"the program does not end: {self.text[-8000:]}")
            self.read(0.05)
        self.read(0.2)
        return int(self.program.wait())

    def after_screen(self) -> str:
        """What was written once the last alternate screen was left."""
        assert ALTERNATE in self.text
        assert self.text.rindex(NORMAL) > self.text.rindex(ALTERNATE)
        return self.text[self.text.rindex(NORMAL) :]
