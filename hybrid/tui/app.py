"""The view's two doors: `watching` for a run that shows itself, `top` for looking at others.

    with watching(recorder.newest):                 # run, chat, bench: the block generates
        for token in engine.generate(...): print(token.text, end="", flush=True)

    top(runs, connect)                              # hybrid top: returns when the user leaves

A source is any callable that gives the newest Snapshot, or None before there is one; it is called
four times a second from the view's thread and must not block. It raises EOFError, StopIteration or
OSError when there will be no more (so `iter(...).__next__` is one).

The screen stands on the terminal of stdout, else of stderr. While it does, what the program prints
to that terminal is held, and printed when the screen is left: at the block's end, by q, Ctrl-C, an
exception, SIGTERM. Where neither is a terminal, or TERM=dumb, one plain line a second goes to
stderr and nothing is held; where that is the text's own terminal only the last line, as lines would
come between words. For `top` the lines are what it prints: they go to stdout.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hybrid.tui.choose import RunChoice, choose
from hybrid.tui.lines_view import EVERY_S, LinesView
from hybrid.tui.painter import Painter
from hybrid.tui.signals import signals_to
from hybrid.tui.terminal import Terminal, open_terminal, share_a_terminal
from hybrid.tui.view import ScreenView, Source

__all__ = ["RunChoice", "Source", "show", "top", "watching"]


@contextmanager
def watching(source: Source) -> Iterator[ScreenView | LinesView]:
    """Show `source` while the block runs. Gives the view: `left_by_user`, `failure`, `wait()`.

    What fails in drawing closes the view with a note on stderr and is not raised here.
    """
    lines = LinesView(source, None if share_a_terminal() else EVERY_S)
    with _viewed(source, open_terminal(), lines) as view:
        yield view


@contextmanager
def _viewed(
    source: Source, terminal: Terminal | None, lines: LinesView
) -> Iterator[ScreenView | LinesView]:
    """The screen on this terminal, where it is one and can draw; else the lines."""
    painter = Painter(terminal) if terminal is not None else None
    view: ScreenView | LinesView = lines
    if terminal is not None and painter is not None and painter.can_draw:
        view = ScreenView(source, terminal, painter)
    try:
        with signals_to(view):
            view.start()
            try:
                yield view
            finally:
                view.close()
    finally:
        if terminal is not None:
            terminal.close()


def show(source: Source, every_s: float | None = None) -> bool:
    """Show `source` until the user leaves; without a terminal on stdout, or with a time between
    lines, as lines there until there is no more or nobody reads them.

    returns   whether q ended it
    """
    terminal = open_terminal(sys.stdout) if every_s is None else None
    lines = LinesView(source, every_s or EVERY_S, sys.stdout)
    with _viewed(source, terminal, lines) as view:
        view.wait()
    return view.left_by_user


def top(
    runs: Sequence[RunChoice],
    connect: Callable[[RunChoice], Source],
    every_s: float | None = None,
) -> None:
    """One run at once, several after a choice, to which q leads back.

    every_s   as of `show`
    Raises UsageError for several runs where nobody can be asked, and what `connect` raises.
    """
    if len(runs) == 1:
        show(connect(runs[0]), every_s)
        return
    while (run := choose(runs)) is not None:
        if not show(connect(run), every_s):
            return
