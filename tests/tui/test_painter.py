"""Frames on the terminal: whole ones, then the lines that have changed."""

import io

import pytest
from rich.cells import cached_cell_len
from rich.console import Console

from hybrid.tui.lines import fitted
from hybrid.tui.painter import WHOLE_EVERY, Painter
from tests.tui.frame_time import Sink

SIZE = (4, 3)
FIRST = [[("aaaa", "")], [("bbbb", "experts")], [("cccc", "")]]
SECOND = [[("aaaa", "")], [("BBBB", "experts")], [("cccc", "")]]


@pytest.fixture
def painter() -> Painter:
    painter = Painter(Sink())  # type: ignore[arg-type]
    painter.console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", _environ={}
    )
    painter.start()
    painter.console.file = io.StringIO()
    return painter


def written(painter: Painter) -> str:
    file = painter.console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    file.seek(0)
    file.truncate()
    return text


def test_the_first_frame_is_whole(painter: Painter) -> None:
    painter.paint(FIRST, SIZE)
    text = written(painter)
    assert [word in text for word in ("aaaa", "bbbb", "cccc")] == [True] * 3
    assert text.count("\n") == 2


def test_then_only_changed_lines_are_written(painter: Painter) -> None:
    painter.paint(FIRST, SIZE)
    written(painter)
    painter.paint(SECOND, SIZE)
    text = written(painter)
    assert "BBBB" in text
    assert "aaaa" not in text
    assert "\x1b[2;1H" in text
    painter.paint(SECOND, SIZE)
    assert written(painter) == ""


def test_another_size_is_painted_wholly(painter: Painter) -> None:
    painter.paint(FIRST, SIZE)
    written(painter)
    painter.paint(FIRST, (5, 3))
    assert "cccc" in written(painter)


def test_now_and_then_a_frame_is_whole_over_what_others_wrote(painter: Painter) -> None:
    texts = []
    for _ in range(WHOLE_EVERY + 1):
        painter.paint(FIRST, SIZE)
        texts.append(written(painter))
    assert sum("cccc" in text for text in texts) == 2


def test_what_has_stopped_paints_nothing(painter: Painter) -> None:
    painter.stop()
    written(painter)
    painter.paint(FIRST, SIZE)
    assert written(painter) == ""


def test_texts_that_were_shown_are_forgotten(painter: Painter) -> None:
    for number in range(20 * WHOLE_EVERY):
        line = fitted([(f"{number:03}▆", "")], SIZE[0])
        painter.paint([line, [("bbbb", "")], [("cccc", "")]], SIZE)
    assert cached_cell_len.cache_info().currsize < 4 * WHOLE_EVERY
