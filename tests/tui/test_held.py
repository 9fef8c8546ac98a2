"""What is printed under the screen comes out after it, whole and in order."""

import io
import sys

import pytest

from hybrid.tui.held import Held, HeldStream


class TerminalText(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> TerminalText:
    """Both streams on one terminal. No fixture: pytest sets its own after those."""
    shared = TerminalText()
    monkeypatch.setattr(sys, "stdout", shared)
    monkeypatch.setattr(sys, "stderr", shared)
    return shared


def test_both_streams_are_held_and_released_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    held = Held()
    held.take()
    sys.stdout.write("one ")
    sys.stderr.write("two ")
    sys.stdout.write("three")
    sys.stdout.flush()
    assert terminal.getvalue() == ""
    held.release()
    assert terminal.getvalue() == "one two three"
    assert sys.stdout is terminal
    assert sys.stderr is terminal
    held.release()
    assert terminal.getvalue() == "one two three"


def test_who_kept_the_stream_writes_through_it_after_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_terminal(monkeypatch)
    held = Held()
    held.take()
    kept = sys.stdout
    held.release()
    kept.write("late")
    assert terminal.getvalue() == "late"


def test_a_pipe_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    held = Held()
    held.take()
    sys.stdout.write("now")
    assert pipe.getvalue() == "now"
    assert isinstance(sys.stderr, HeldStream)
    held.release()


def test_a_progress_bar_on_stderr_is_told_that_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_terminal(monkeypatch)
    held = Held()
    held.take()
    assert sys.stdout.isatty()
    assert not sys.stderr.isatty()
    held.release()
    assert sys.stderr.isatty()


def test_a_stream_put_in_place_meanwhile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    held = Held()
    held.take()
    other = io.StringIO()
    monkeypatch.setattr(sys, "stdout", other)
    held.release()
    assert sys.stdout is other
