"""Which of several runs to look at: a list, arrows or a number, enter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.errors import UsageError
from hybrid.tui.amounts import duration
from hybrid.tui.keys import key_names
from hybrid.tui.lines import Line, fitted, one_line
from hybrid.tui.painter import Painter
from hybrid.tui.signals import signals_to
from hybrid.tui.terminal import Terminal, open_terminal

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class RunChoice:
    """A run that can be looked at. since   seconds since the epoch"""

    pid: int
    model: str
    since: float


def choose(runs: Sequence[RunChoice]) -> RunChoice | None:
    """The one that the user picks, None for q.

    Raises UsageError where there is no terminal to ask on, or nothing to pick.
    """
    if not runs:
        raise UsageError("no run to look at", remedy="hybrid run MODEL ... in another terminal")
    terminal = open_terminal()
    try:
        painter = Painter(terminal) if terminal is not None else None
        if terminal is None or painter is None or not painter.can_draw:
            raise UsageError(
                f"{len(runs)} runs, and no terminal to choose on",
                remedy=f"say which: one of {', '.join(str(run.pid) for run in runs)}",
            )
        return _Choice(runs, terminal, painter).picked()
    finally:
        if terminal is not None:
            terminal.close()


class _Choice:
    """The list on the screen, all in the calling thread."""

    def __init__(self, runs: Sequence[RunChoice], terminal: Terminal, painter: Painter) -> None:
        self._runs, self._terminal, self._painter = runs, terminal, painter
        self._at = 0
        self._done = False

    def picked(self) -> RunChoice | None:
        with signals_to(self):
            try:
                while not self._done:
                    if not self._terminal.is_entered:
                        self.resume()
                    self._draw()
                    for key in key_names(self._terminal.read(EVERY_S)):
                        self._obey(key)
            finally:
                self.close()
        return self._runs[self._at] if self._at >= 0 else None

    def suspend(self) -> None:
        self._painter.stop()
        self._terminal.leave()

    def resume(self) -> None:
        self.suspend()
        if self._terminal.is_ours():
            self._terminal.enter()
            self._painter.start()

    def close(self) -> None:
        self.suspend()

    def _obey(self, key: str) -> None:
        last = len(self._runs) - 1
        if key in ("up", "k"):
            self._at = max(self._at - 1, 0)
        elif key in ("down", "j", "tab"):
            self._at = min(self._at + 1, last)
        elif key == "enter":
            self._done = True
        elif key in ("q", "Q", "escape"):
            self._at, self._done = -1, True
        elif key.isdigit() and 1 <= int(key) <= len(self._runs):
            self._at, self._done = int(key) - 1, True

    def _draw(self) -> None:
        width, height = self._terminal.size()
        self._painter.paint(choice_lines(self._runs, self._at, width, height), (width, height))


def choice_lines(runs: Sequence[RunChoice], at: int, width: int, height: int) -> list[Line]:
    """The list around the chosen one, exactly `height` lines."""
    room = max(height - 4, 1)
    first = min(max(at - room + 1, 0), max(len(runs) - room, 0))
    lines: list[Line] = [[(" hybrid top", "title"), (f"  {len(runs)} runs", "faint")], []]
    for index in range(first, min(first + room, len(runs))):
        run = runs[index]
        text = f"{'>' if index == at else ' '} {index + 1:2}  {run.pid:>8}  "
        text += f"{duration(time.time() - run.since):>9}  {one_line(run.model)}"
        lines.append([(text, "chosen" if index == at else "")])
    lines += [[]] * max(height - len(lines) - 1, 0)
    lines.append([(" up, down, enter or a number; q leaves", "faint")])
    return [fitted(line, width) for line in lines][:height]
