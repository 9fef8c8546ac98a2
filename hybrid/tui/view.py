"""The view of one run: a thread that takes the newest Snapshot, draws it and obeys keys.

    main thread            view thread
    start ───────────────> enter terminal, take the alternate screen
    suspend, resume ─────> leave it, take it again
    close ───────────────> leave it, print what was held        (also q, and a failure of drawing)

Only the view's thread draws, and only it enters and leaves, unless it hangs in a write: then
`close` and `suspend` restore the terminal past it.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from hybrid.live.snapshot import Snapshot
from hybrid.tui.header import OVER
from hybrid.tui.held import Held
from hybrid.tui.keys import key_names
from hybrid.tui.lines import Line, fitted
from hybrid.tui.look import look_of
from hybrid.tui.painter import Painter
from hybrid.tui.screen import VIEWS, View, screen
from hybrid.tui.signals import wait_for
from hybrid.tui.terminal import Terminal

Source = Callable[[], Snapshot | None]
GONE = (EOFError, StopIteration, OSError)  # what a source raises when there will be no more

REFRESH_S = 0.25
COUNTS_EVERY_S = 5.0  # expert counts change slowly, and cost more than all the rest to draw
PATIENCE_S = 1.0  # that a thread has to leave the terminal before it is left past it


class Wanted(Enum):
    ON = "on"
    OFF = "off"
    CLOSED = "closed"


class ScreenView:
    """Of one source on one terminal.

    failure        what drawing raised: the view has closed itself, the run goes on
    left_by_user   q was pressed
    """

    def __init__(self, source: Source, terminal: Terminal, painter: Painter) -> None:
        self.failure: Exception | None = None
        self.left_by_user = False
        self._source = source
        self._terminal, self._painter = terminal, painter
        self._look = look_of(terminal.encoding)
        self._held = Held()
        self._is_over = False  # the source has no more
        self._wanted = Wanted.ON
        self._view = View()
        self._taken: Snapshot | None = None
        self._newest: Snapshot | None = None  # that is shown
        self._counted: Snapshot | None = None  # whose expert counts are shown
        self._drawn: tuple[Snapshot | None, View, tuple[int, int]] = None, self._view, (0, 0)
        self._lines: list[Line] = []
        self._is_off, self._is_closed = threading.Event(), threading.Event()
        self._enter_again = False
        self._thread = threading.Thread(target=self._run, name="hybrid-view", daemon=True)

    def start(self) -> None:
        self._held.take()
        self._thread.start()

    def close(self) -> None:
        """When this returns the terminal is as before and what was held is printed."""
        self._wanted = Wanted.CLOSED
        self._terminal.wake()
        try:
            self._is_closed.wait(PATIENCE_S)
        finally:  # also when Ctrl-C comes here
            self._terminal.leave(raw=True)
            self._held.release()

    def suspend(self) -> None:
        """Leave the terminal; at once, as who asks will be stopped."""
        if self._wanted is Wanted.CLOSED:
            return
        self._is_off.clear()
        self._wanted = Wanted.OFF
        self._terminal.wake()
        self._is_off.wait(PATIENCE_S)
        self._terminal.leave(raw=True)

    def resume(self) -> None:
        """Take the terminal again, whoever has used it meanwhile."""
        if self._wanted is not Wanted.CLOSED:
            self._enter_again = True
            self._wanted = Wanted.ON
            self._terminal.wake()

    def wait(self) -> None:
        """Until q, or a failure."""
        wait_for(self._is_closed)

    def _run(self) -> None:
        try:
            self._loop()
        except OSError:  # the terminal is gone: nobody is left to draw for
            pass
        except Exception as error:  # noqa: BLE001  a panel's fault must not end the run
            self.failure = error
        finally:
            self._wanted = Wanted.CLOSED
            self._off()
            self._held.release()
            if self.failure is not None:
                _say_failure(self.failure)
            self._is_closed.set()

    def _loop(self) -> None:
        while self._wanted is not Wanted.CLOSED:
            if self._wanted is Wanted.OFF or self._enter_again:
                self._enter_again = False
                self._off()
                self._is_off.set()
            if self._wanted is Wanted.ON and self._terminal.is_ours():
                self._on()
                self._draw()
                for key in key_names(self._terminal.read(REFRESH_S)):
                    self._obey(key)
            else:
                self._terminal.rest(REFRESH_S)

    def _on(self) -> None:
        if not self._terminal.is_entered:
            self._terminal.enter()
            self._painter.start()

    def _off(self) -> None:
        with contextlib.suppress(OSError):
            self._painter.stop()
        self._terminal.leave()

    def _draw(self) -> None:
        self._take()
        width, height = self._terminal.size()
        newest, view, size = self._drawn
        if newest is not self._newest or (view, size) != (self._view, (width, height)):
            self._lines = _nothing_yet(width, height)
            if self._newest is not None:
                self._lines = screen(self._newest, width, height, self._look, self._view)
            self._drawn = self._newest, self._view, (width, height)
        self._painter.paint(self._lines, (width, height))

    def _take(self) -> None:
        """The newest snapshot; the last one stays on the screen when its run is gone."""
        try:
            newest = self._source() if not self._is_over else None
        except GONE:
            self._is_over, newest = True, None
            self._view = replace(self._view, over=self._view.over or "GONE")
        if newest is not None:
            over = newest.phase.value.upper() if newest.phase in OVER else ""
            self._view = replace(self._view, over=over)
            self._taken = newest
        if self._taken is not None:
            self._newest = self._shown(self._taken)

    def _shown(self, taken: Snapshot) -> Snapshot:
        """Where the reader has stopped the snapshot of then, but why the run has failed since."""
        if self._view.paused and self._newest is not None:
            same = taken.error == self._newest.error
            return self._newest if same else replace(self._newest, error=taken.error)
        if self._counted is None or taken.at - self._counted.at >= COUNTS_EVERY_S:
            self._counted = taken
        return with_counts_of(taken, self._counted)

    def _obey(self, key: str) -> None:
        view = self._view
        index = VIEWS.index(view.name)
        if key in ("q", "Q"):
            self.left_by_user = True
            self._wanted = Wanted.CLOSED
        elif key in ("p", "space"):
            self._view = replace(view, paused=not view.paused)
        elif key in ("?", "h"):
            self._view = replace(view, shows_help=not view.shows_help)
        elif key == "escape":
            self._view = replace(view, shows_help=False)
        elif key in ("tab", "right"):
            self._choose(index + 1)
        elif key in ("back-tab", "left"):
            self._choose(index - 1)
        elif key.isdigit() and 1 <= int(key) <= len(VIEWS):
            self._choose(int(key) - 1)

    def _choose(self, index: int) -> None:
        self._view = replace(self._view, name=VIEWS[index % len(VIEWS)], shows_help=False)


def with_counts_of(newest: Snapshot, counted: Snapshot) -> Snapshot:
    """`newest` with the expert counts of an earlier one of the same layers."""
    if newest is counted or len(newest.layers) != len(counted.layers):
        return newest
    layers = [
        replace(layer, usage=earlier.usage)
        for layer, earlier in zip(newest.layers, counted.layers, strict=True)
    ]
    return replace(newest, layers=tuple(layers))


def _nothing_yet(width: int, height: int) -> list[Line]:
    line = fitted([(" waiting for the first figures; q leaves", "faint")], width)
    return [line, *[fitted([], width)] * (height - 1)]


def _say_failure(failure: Exception) -> None:
    """What to report, on one line: the place is where drawing ended."""
    place = failure.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_name}, line {place.tb_lineno})" if place else ""
    with contextlib.suppress(OSError, ValueError):
        kind = type(failure).__name__
        sys.stderr.write(f"note: the view has closed: {kind}: {failure}{where}\n")
        sys.stderr.flush()
