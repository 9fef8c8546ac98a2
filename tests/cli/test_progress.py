"""What the bar shows, drawn on a terminal that is a text."""

import io
import re
import sys

import pytest
from rich.progress import Progress

from hybrid.cli.progress import progress_bar

GIB = 1 << 30


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so; each report is drawn."""
    seconds = [100.0]
    made, updated = Progress.__init__, Progress.update

    def with_clock(self, *columns, **options):
        made(self, *columns, **options, get_time=lambda: seconds[0], auto_refresh=False)

    def drawn(self, task, **options):
        updated(self, task, **options, refresh=True)

    monkeypatch.setattr(Progress, "__init__", with_clock)
    monkeypatch.setattr(Progress, "update", drawn)
    return seconds


def on_terminal(monkeypatch):
    """Called in a test: pytest puts its own stderr back after fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def last_line(terminal):
    """The bar as it was drawn last, without colours and movements."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return [line for line in re.split(r"[\r\n]", plain) if line.strip()][-1]


def test_bytes_are_shown_with_their_speed(monkeypatch, clock):
    terminal = on_terminal(monkeypatch)
    with progress_bar("loading", "bytes") as report:
        report(0, 8 * GIB)
        for second in range(1, 5):
            clock[0] += 1
            report(second * GIB, 8 * GIB)
    line = last_line(terminal)
    assert line.startswith("loading")
    assert "4.0/8.0 GiB" in line
    assert "1.1 GB/s" in line
    assert "0:00:04" in line


def test_speed_is_that_of_the_last_seconds_not_of_all(monkeypatch, clock):
    terminal = on_terminal(monkeypatch)
    with progress_bar("loading", "bytes") as report:
        for second in range(40):
            clock[0] += 1
            report(second * GIB, 100 * GIB)
        for second in range(40):
            clock[0] += 1
            report(40 * GIB + second * (GIB >> 4), 100 * GIB)
    assert "67.1 MB/s" in last_line(terminal)


def test_other_things_are_counted(monkeypatch, clock):
    terminal = on_terminal(monkeypatch)
    with progress_bar("perplexity", "windows") as report:
        report(0, 8)
        clock[0] += 1
        report(3, 8, "so far 4.2")
    line = last_line(terminal)
    assert "3/8 windows" in line
    assert "so far 4.2" in line
    assert "/s" not in line


def test_nothing_is_drawn_where_nobody_looks(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress_bar("loading", "bytes") as report:
        report(1, 2)
    assert shown.getvalue() == ""
