"""A run's side of the socket: one sleeping thread that wakes when somebody connects.

    accept ─> hello ─> request ─┬─ every so often: a snapshot, made once for all who are due
                                └─ whoever has not taken the last one yet goes without this one

All sends are non-blocking: a watcher that is slow, stopped or killed costs the run nothing. The run
is measured while at least one watcher has asked for snapshots.
"""

import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from hybrid.live.codec import to_line
from hybrid.live.live_run import LiveRun
from hybrid.live.plan_view import PlanView
from hybrid.live.socket_folder import make_folder, socket_path
from hybrid.live.wire import (
    COUNTS_EVERY_S,
    MOST_REQUEST,
    Hello,
    has_counts,
    hello_line,
    peer_is_us,
    read_request,
    without_counts,
)

MOST_WATCHERS = 16
LAST_WORDS_S = 0.25  # that the end of a run waits for watchers to take the last snapshot
STOP_S = 2.0
REST_S = 1.0  # that new connections wait when one could not be taken


@dataclass(slots=True, eq=False)
class _Watcher:
    """One that is connected.

    every_s      None before it has asked
    due          when its next snapshot is; counts_due: from when on that has expert counts
    counts_of    the plan that the last counts were of
    pending      bytes of a line that it has not taken yet
    """

    connection: socket.socket
    heard: bytes = b""
    every_s: float | None = None
    due: float = 0.0
    counts_due: float = 0.0
    counts_of: PlanView | None = None
    pending: memoryview = field(default_factory=lambda: memoryview(b""))


class SocketServer:
    """Serves a run until `stop`.

    folders   candidates for the socket's folder (`socket_folder.run_folders`)
    note      told why nobody is served any more, when serving fails; the run goes on

    Raises OSError when none of the folders can be used.
    """

    def __init__(
        self, live: LiveRun, folders: tuple[Path, ...], note: Callable[[str], None]
    ) -> None:
        facts = live.view.facts
        self._live, self._note = live, note
        self._hello = hello_line(Hello(facts.pid, facts.command, facts.model, facts.started_at))
        self.path = socket_path(make_folder(folders), facts.pid)
        self._listener = _listening(self.path)
        self._wakes, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._watchers: dict[socket.socket, _Watcher] = {}
        self._watching = ExitStack()
        self._is_watching = False
        self._accepts_at: float | None = None  # while no connection is taken
        self._thread = threading.Thread(target=self._run, name="hybrid live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell watchers what `live` says now, and close. The socket goes first: one that is still
        there when its connections break tells that the run was killed.
        """
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._waker.send(b"x")
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            self._serve_all()
            self._say_goodbye()
        except Exception as error:  # noqa: BLE001  a view must not end the run it looks at
            self._note(f"`hybrid top` is not served any more: {type(error).__name__}: {error}")
            self.path.unlink(missing_ok=True)
        finally:
            self._close()

    def _serve_all(self) -> None:
        """Until told to stop."""
        told_to_stop = False
        while not told_to_stop:
            self._accept_again()
            for key, events in self._selector.select(self._wait_s()):
                if key.fileobj is self._wakes:
                    told_to_stop = True
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._watchers:
                    self._serve(key.data, events)
            if not told_to_stop:
                self._send_due()

    def _wait_s(self) -> float | None:
        """Until the next snapshot is due or connections are taken again; None: until woken."""
        due = [its.due for its in self._watchers.values() if its.every_s is not None]
        due += [self._accepts_at] if self._accepts_at is not None else []
        return max(min(due) - monotonic(), 0.0) if due else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptor is free: it would be tried again without end
            self._selector.unregister(self._listener)
            self._accepts_at = monotonic() + REST_S
            return
        if len(self._watchers) >= MOST_WATCHERS or not peer_is_us(connection):
            connection.close()
            return
        connection.setblocking(False)
        watcher = _Watcher(connection, pending=memoryview(self._hello))
        self._watchers[connection] = watcher
        self._selector.register(connection, selectors.EVENT_READ, watcher)
        self._flush(watcher)

    def _accept_again(self) -> None:
        if self._accepts_at is not None and monotonic() >= self._accepts_at:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._accepts_at = None

    def _serve(self, watcher: _Watcher, events: int) -> None:
        """What one watcher does ends itself alone, never the others or the serving."""
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(watcher)
            if events & selectors.EVENT_READ and watcher.connection in self._watchers:
                self._hear(watcher)
        except Exception:  # noqa: BLE001  whatever it said
            if watcher.connection in self._watchers:
                self._drop(watcher)

    def _hear(self, watcher: _Watcher) -> None:
        try:
            more = watcher.connection.recv(MOST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more or len(watcher.heard) + len(more) > MOST_REQUEST:
            self._drop(watcher)
            return
        *lines, watcher.heard = (watcher.heard + more).split(b"\n")
        for line in lines:
            every_s = read_request(line)
            if every_s is None:
                self._drop(watcher)
                return
            watcher.every_s, watcher.due = every_s, monotonic()
        self._watch()

    def _send_due(self) -> None:
        now = monotonic()
        due = [its for its in self._watchers.values() if its.every_s is not None and its.due <= now]
        ready = [its for its in due if not its.pending]
        for watcher in due:
            assert watcher.every_s is not None, "it is due"
            watcher.due = max(watcher.due + watcher.every_s, now)
        if ready:
            self._send(ready, now)

    def _send(self, ready: Sequence[_Watcher], now: float) -> None:
        """The snapshot of now, to each with the expert counts or without."""
        view, snapshot = self._live.view, self._live.snapshot()
        counted = has_counts(snapshot)
        lines: dict[bool, memoryview] = {}
        for watcher in ready:
            whole = not counted or watcher.counts_due <= now or watcher.counts_of is not view
            if whole not in lines:
                lines[whole] = memoryview(to_line(snapshot if whole else without_counts(snapshot)))
            if whole and counted:
                watcher.counts_due, watcher.counts_of = now + COUNTS_EVERY_S, view
            watcher.pending = lines[whole]
            self._flush(watcher)

    def _flush(self, watcher: _Watcher) -> None:
        """Send what goes without waiting."""
        try:
            while watcher.pending:
                sent = watcher.connection.send(watcher.pending)
                watcher.pending = watcher.pending[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(watcher)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if watcher.pending else 0)
        self._selector.modify(watcher.connection, wanted, watcher)

    def _drop(self, watcher: _Watcher) -> None:
        del self._watchers[watcher.connection]
        self._selector.unregister(watcher.connection)
        watcher.connection.close()
        self._watch()

    def _watch(self) -> None:
        """Measure while somebody wants snapshots."""
        wanted = any(its.every_s is not None for its in self._watchers.values())
        if wanted and not self._is_watching:
            self._watching.enter_context(self._live.watch())
        elif self._is_watching and not wanted:
            self._watching.close()
        self._is_watching = wanted

    def _say_goodbye(self) -> None:
        line = to_line(self._live.snapshot())
        until = monotonic() + LAST_WORDS_S
        for watcher in tuple(self._watchers.values()):
            with suppress(OSError):
                if watcher.every_s is not None:
                    watcher.connection.settimeout(max(until - monotonic(), 0.01))
                    watcher.connection.sendall(bytes(watcher.pending) + line)

    def _close(self) -> None:
        for watcher in self._watchers.values():
            watcher.connection.close()
        self._watching.close()
        self._selector.close()
        for end in (self._listener, self._wakes, self._waker):
            end.close()


def _listening(path: Path) -> socket.socket:
    """A socket at `path` that only this user may connect to; one of a dead run is replaced."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)  # the folder has kept others out until here
        made.listen(MOST_WATCHERS)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
