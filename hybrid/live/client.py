"""A watcher's side of the socket: which runs there are, and their snapshots as they come.

for snapshot in attach(run): ...        ends with the run; attached.ending says how
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import time
from typing import BinaryIO

from hybrid.live.codec import WireError, from_line
from hybrid.live.snapshot import Phase, Snapshot
from hybrid.live.socket_folder import ENDING, usable_folders
from hybrid.live.wire import MOST_LINE, Hello, peer_is_us, read_hello, request_line, with_counts

ANSWER_S = 2.0  # that a run takes to say hello, at most; one that is stopped takes for ever
YOUNG_S = 10.0  # within them a socket that refuses may be about to listen


class Ending(str, Enum):
    """How a run that was watched ended."""

    ENDED = "the run has ended"
    FAILED = "the run has failed"
    KILLED = "the run was killed"
    VERSION = "the run is of another version of hybrid"


@dataclass(frozen=True, slots=True)
class Run:
    """One that lives.

    started_at   seconds since the epoch
    path         of its socket
    """

    pid: int
    command: str
    model: str
    started_at: float
    path: Path


def runs(folders: Sequence[Path]) -> list[Run]:
    """All of this user's that answer, oldest first. Sockets of dead runs are removed."""
    found = []
    for folder in usable_folders(tuple(folders)):
        for path in sorted(folder.glob(f"*{ENDING}")):
            met = _meet(path)
            if met is not None:
                hello, connection, stream = met
                stream.close()
                connection.close()
                run = Run(hello.pid, hello.command, hello.model, hello.started_at, path)
                found.append(run)
    return sorted(found, key=lambda run: run.started_at)


class Attached:
    """Snapshots of one run, every `every_s` seconds or slower.

    ending   how the run ended, once iterating has ended by itself; None while it lives
    """

    def __init__(self, run: Run, every_s: float) -> None:
        self.run = run
        self.ending: Ending | None = None
        self._last: Snapshot | None = None
        self._is_left = False
        self._connection: socket.socket | None = None
        self._stream: BinaryIO | None = None
        met = _meet(run.path)
        if met is not None:
            _, self._connection, self._stream = met
            self._connection.settimeout(None)
            with suppress(OSError):
                self._connection.sendall(request_line(every_s))

    def __iter__(self) -> Iterator[Snapshot]:
        return self

    def __next__(self) -> Snapshot:
        """The next one as it comes. Raises StopIteration at the run's end."""
        line = self._line()
        if not line.endswith(b"\n"):
            self._finish()
            raise StopIteration
        try:
            self._last = with_counts(from_line(line), self._last)
        except WireError:
            self.ending = Ending.VERSION
            self.close()
            raise StopIteration from None
        return self._last

    def close(self) -> None:
        """Detach: the run goes on and is not measured for this watcher any more. From any thread;
        one that waits for the next snapshot is woken.
        """
        self._is_left = True
        connection, stream = self._connection, self._stream
        self._stream = self._connection = None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        if stream is not None:
            stream.close()

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> bytes:
        """Empty, or cut, where the connection ended."""
        stream = self._stream
        if stream is None:
            return b""
        try:
            return stream.readline(MOST_LINE)
        except (OSError, ValueError):
            return b""

    def _finish(self) -> None:
        if self.ending is None and not self._is_left:
            self.ending = self._how()
        self.close()

    def _how(self) -> Ending:
        phase = self._last.phase if self._last else None
        if phase is Phase.FAILED:
            return Ending.FAILED
        # A run that ends removes its socket before it breaks connections.
        if phase is Phase.ENDED or not self.run.path.exists():
            return Ending.ENDED
        return Ending.ENDED if _is_alive(self.run.path) else Ending.KILLED


def attach(run: Run, every_s: float = 0.25) -> Attached:
    """Watch a run; it is measured from now on."""
    return Attached(run, every_s)


def _meet(path: Path) -> tuple[Hello, socket.socket, BinaryIO] | None:
    """Connected, with what the run said of itself; None where nobody of ours answers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(str(path))
        stream = connection.makefile("rb")
        hello = read_hello(stream.readline(MOST_LINE)) if peer_is_us(connection) else None
    except ConnectionRefusedError:
        connection.close()
        _remove_dead(path)
        return None
    except OSError:
        connection.close()
        return None
    if hello is None:
        stream.close()
        connection.close()
        return None
    return hello, connection, stream


def _is_alive(path: Path) -> bool:
    met = _meet(path)
    if met is not None:
        met[2].close()
        met[1].close()
    return met is not None


def _remove_dead(path: Path) -> None:
    """A socket that refuses belongs to a run that is dead, or to one that does not listen yet."""
    with suppress(OSError, ValueError):
        if time() - path.lstat().st_mtime < YOUNG_S:
            with suppress(PermissionError):
                os.kill(int(path.name.removesuffix(ENDING)), 0)  # raises for one that is gone
                return
    with suppress(OSError):
        path.unlink()
