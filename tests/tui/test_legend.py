"""Above the keys stands what is drawn in this view, wholly."""

from dataclasses import replace

import pytest

from hybrid.tui.legend import legend
from hybrid.tui.look import UNICODE
from hybrid.tui.screen import View, screen
from tests.tui.recorded import SCENES, nothing_measured, one_gpu, prompt_phase


def words(view: str, scene: str = "gpu1", width: int = 80) -> str:
    lines = legend(SCENES[scene](), width, UNICODE, view)
    return "\n".join("".join(text for text, _ in line) for line in lines)


@pytest.mark.parametrize("scene", SCENES)
def test_every_glyph_of_the_bars_is_explained_at_80_columns(scene: str) -> None:
    lines = screen(SCENES[scene](), 80, 24, UNICODE, View("devices"))
    bars = [line for line in lines[:-3] if "mem" in _text(line) or "time" in _text(line)]
    drawn = {
        glyph
        for line in bars
        for text, name in line
        if name in UNICODE.glyphs or name == "mark"
        for glyph in text
    }
    assert drawn <= set(words("devices", scene))


def test_each_view_has_its_own_legend_and_the_text_has_none() -> None:
    assert "experts" in words("overview")
    assert "a layer's time" in words("layers")
    assert "most chosen expert" in words("experts")
    assert "░ cache" not in words("layers") + words("experts")
    assert words("text") == ""
    assert "cache" not in _text(screen(one_gpu(), 80, 24, UNICODE, View(shows_help=True))[-2])


def test_what_is_not_drawn_is_not_explained() -> None:
    assert legend(nothing_measured(), 80, UNICODE, "overview") == []
    assert legend(nothing_measured(), 80, UNICODE, "experts") == []
    assert legend(prompt_phase(), 80, UNICODE, "layers") == []
    assert "× other programs" in words("devices")
    gpu, _ = one_gpu().devices
    alone = replace(gpu.memory, used_by_all_bytes=gpu.memory.actual_bytes)
    snapshot = replace(one_gpu(), devices=(replace(gpu, memory=alone),))
    lines = legend(snapshot, 80, UNICODE, "devices")
    assert "other programs" not in "".join(_text(line) for line in lines)


def test_a_glyph_of_both_bars_stands_once_with_both_meanings() -> None:
    assert words("devices").count("·") == 1
    assert "· free, waiting" in words("devices")


def _text(line: list[tuple[str, str]]) -> str:
    return "".join(text for text, _ in line)
