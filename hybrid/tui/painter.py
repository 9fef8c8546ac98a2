"""Lines -> the alternate screen, through rich's Live. Between whole frames only the lines that have
changed are written: at four frames a second that is a tenth of the bytes and half of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cached_cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from hybrid.tui.lines import Line
from hybrid.tui.look import style
from hybrid.tui.terminal import Terminal

WHOLE_EVERY = 20  # frames: what else has written on the terminal is painted over then


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines as rich renders them, none of them wrapped."""

    lines: Sequence[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield from segments(line)


def segments(line: Line) -> list[Segment]:
    return [Segment(text, style(name)) for text, name in line]


class Painter:
    """Of one terminal. `start` takes the alternate screen, `stop` gives it back."""

    def __init__(self, terminal: Terminal) -> None:
        self.console = Console(file=terminal.stream, force_terminal=True, legacy_windows=False)
        self._live: Live | None = None
        self._shown: list[Line] = []
        self._frames = 0

    @property
    def can_draw(self) -> bool:
        return not self.console.is_dumb_terminal

    def start(self) -> None:
        self._shown = []
        self._live = Live(
            console=self.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def paint(self, lines: list[Line], size: tuple[int, int]) -> None:
        """Show these lines, which fit `size`. Raises OSError when the terminal is gone."""
        if self._live is None:
            return
        whole = len(lines) != len(self._shown) or self.console.size != size
        self._frames += 1
        if whole or self._frames % WHOLE_EVERY == 0:
            self.console.size = size
            cached_cell_len.cache_clear()  # of 4096 texts, most of which come once
            self._live.update(Frame(lines), refresh=True)
        else:
            self._change(lines)
        self._shown = lines

    def _change(self, lines: list[Line]) -> None:
        with self.console:
            for number, (line, shown) in enumerate(zip(lines, self._shown, strict=True)):
                if line != shown:
                    self.console.update_screen_lines([segments(line)], 0, number)
