"""The user's terminal while a screen is on it, and how it was before.

    open     the terminal of stdout, else of stderr, through a descriptor of its own
    enter    characters as they are typed, not shown; Ctrl-C and Ctrl-Z stay signals
    leave    all as it was

Should this process die without a word (kill -9, a crash of native code), a `sh` that waits for its
end restores the terminal. It costs no time and is gone with the screen.
"""

import contextlib
import os
import select
import subprocess
import sys
import termios
from typing import Any, TextIO

# Leave the alternate screen, show the cursor, default colours.
RESTORE = "\x1b[?1049l\x1b[?25h\x1b[0m"
_GUARD = """trap '' INT TERM HUP TSTP TTOU
read -r word || { printf '\\033[?1049l\\033[?25h\\033[0m'; stty "$1" <&1; }"""
SMALLEST = (80, 24)  # of terminals that do not know their size


class Terminal:
    """One terminal. stream   text to it, what its encoding cannot say as "?" """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        # closed by `close`: it lives as long as the screen
        self.stream: TextIO = open(  # noqa: SIM115
            descriptor, "w", encoding=encoding, errors="replace", closefd=False
        )
        self._before: list[Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._wakers = os.pipe()
        for end in self._wakers:
            os.set_blocking(end, False)

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    @property
    def is_entered(self) -> bool:
        return self._before is not None

    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        width, height = os.get_terminal_size(self._descriptor)
        return (width, height) if width > 0 and height > 0 else SMALLEST

    def is_ours(self) -> bool:
        """Whether this process may draw: false for one that the shell has put in the background."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:  # not the controlling terminal: nothing else claims it
            return True

    def enter(self) -> None:
        if self._before is not None:
            return
        before = termios.tcgetattr(self._descriptor)
        self._guard = _guard(self._descriptor)
        typed = [*before[:6], list(before[6])]
        typed[0] &= ~termios.IXON  # Ctrl-S would stop the drawing thread, and whoever waits for it
        typed[3] &= ~(termios.ICANON | termios.ECHO)
        typed[6][termios.VMIN], typed[6][termios.VTIME] = 1, 0
        self._before = before
        termios.tcsetattr(self._descriptor, termios.TCSANOW, typed)

    def leave(self, *, raw: bool = False) -> None:
        """Twice is once. raw   also what the painter would undo, past an output that hangs."""
        before, self._before = self._before, None
        if before is None:
            return
        with contextlib.suppress(OSError, termios.error):
            if raw:
                os.write(self._descriptor, RESTORE.encode())
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(
                self._descriptor, termios.TCSADRAIN if not raw else termios.TCSANOW, before
            )
        _dismiss(self._guard)
        self._guard = None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        for descriptor in (self._descriptor, *self._wakers):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def read(self, timeout_s: float) -> bytes:
        """What was typed, at the latest after `timeout_s`; nothing after `wake`.

        Raises OSError when the terminal is gone.
        """
        ready, _, _ = select.select([self._descriptor, self._wakers[0]], [], [], timeout_s)
        if self._wakers[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakers[0], 1024)
        if self._descriptor not in ready:
            return b""
        data = os.read(self._descriptor, 1024)
        if not data:
            raise OSError("the terminal has hung up")
        return data

    def rest(self, timeout_s: float) -> None:
        """The same without reading: what is typed is for another program."""
        ready, _, _ = select.select([self._wakers[0]], [], [], timeout_s)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakers[0], 1024)

    def wake(self) -> None:
        """End another thread's `read` now."""
        with contextlib.suppress(OSError):
            os.write(self._wakers[1], b".")


def open_terminal(*streams: TextIO) -> Terminal | None:
    """The terminal that the user looks at, of stdout or stderr unless others are named; None where
    there is none.
    """
    for stream in streams or (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if stream.isatty():
                return Terminal(_own_descriptor(stream.fileno()), stream.encoding or "ascii")
    return None


def share_a_terminal() -> bool:
    """Whether what goes to stdout and to stderr comes out on one terminal."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        both = sys.stdout.isatty() and sys.stderr.isatty()
        return both and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    return False


def _own_descriptor(descriptor: int) -> int:
    """Opened anew to read and write; where that is not allowed, what is open already."""
    try:
        return os.open(os.ttyname(descriptor), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)


def _guard(descriptor: int) -> "subprocess.Popen[bytes] | None":
    """None where there is no `sh` or `stty`."""
    try:
        state = subprocess.run(
            ["stty", "-g"], stdin=descriptor, capture_output=True, text=True, check=True
        )
        return subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", state.stdout.strip()],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _dismiss(guard: "subprocess.Popen[bytes] | None") -> None:
    if guard is None or guard.stdin is None:
        return
    with contextlib.suppress(OSError):
        guard.stdin.write(b"done\n")
    with contextlib.suppress(OSError):
        guard.stdin.close()
    try:
        guard.wait(1.0)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
