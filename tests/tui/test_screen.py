"""The whole screen: recorded scenes against golden text, any size, what is absent."""

import itertools
from dataclasses import replace

import pytest

from hybrid.live.snapshot import Sensors, Snapshot
from hybrid.tui.lines import width_of
from hybrid.tui.look import ASCII, UNICODE
from hybrid.tui.screen import VIEWS, Panel, View, screen, shares
from tests.tui.golden_screens import golden_path, screen_text
from tests.tui.recorded import SCENES, SIZES, four_gpus, nothing_measured, one_gpu, sixteen_gpus

WIDTHS = (20, 33, 80, 119, 159, 160, 250)
HEIGHTS = (5, 11, 24, 45, 90)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_scene_looks_as_it_is_kept(scene: str, width: int, height: int) -> None:
    """After a wanted change: python -m tests.tui.golden_screens, and read the difference."""
    kept = golden_path(scene, width, height).read_text(encoding="utf-8")
    assert screen_text(scene, width, height) == kept


@pytest.mark.parametrize("scene", SCENES)
def test_every_size_and_view_is_filled_exactly(scene: str) -> None:
    snapshot = SCENES[scene]()
    views = [View(name) for name in VIEWS] + [View(shows_help=True), View(paused=True)]
    for width, height, view in itertools.product(WIDTHS, HEIGHTS, views):
        for look in (UNICODE, ASCII):
            lines = screen(snapshot, width, height, look, view)
            assert [width_of(line) for line in lines] == [width] * height


@pytest.mark.parametrize("scene", SCENES)
def test_letters_are_enough(scene: str) -> None:
    snapshot = replace(SCENES[scene](), text="plain")
    for width, height in SIZES:
        lines = screen(snapshot, width, height, ASCII, View())
        assert "".join(text for line in lines for text, _ in line).isascii()


def test_a_device_of_sixteen_is_never_lost_without_a_word() -> None:
    text = _text(sixteen_gpus(), 80, 24)
    assert all(f"CUDA{number} " in text for number in range(16))
    assert "CPU " in text
    few = _text(sixteen_gpus(), 80, 12, View("devices"))
    shown = sum(f"CUDA{number} " in few for number in range(16))
    assert 0 < shown < 16
    assert f"and {17 - shown} more" in few


def test_nothing_that_no_source_says_is_written_as_a_number() -> None:
    text = _text(nothing_measured(), 200, 60)
    for word in ("GB/s", "tok/s", "°C", " W ", "PCIe", "faults", "huge", "peak", "predicted"):
        assert word not in text, word
    assert "0.0" not in text
    silent = replace(one_gpu().nodes[0], read_bytes_s=None, experts_read_bytes_s=None)
    bare = replace(one_gpu(), nodes=(silent,))
    assert "- of 169 GB/s" in _text(bare, 120, 40)


def test_sensors_of_which_nothing_is_known_say_nothing() -> None:
    device = replace(one_gpu().devices[0], sensors=Sensors())
    text = _text(replace(one_gpu(), devices=(device,)), 200, 60)
    assert "not throttled" not in text
    assert "°C" not in text


def test_what_is_amiss_is_said_in_words() -> None:
    text = _text(four_gpus(), 200, 60)
    assert "CUDA1 slowed by temperature" in text
    assert "CUDA2 holds 22.9 GiB, budget 22.8" in text
    assert "CUDA3 PCIe x4 of x16" in text
    assert "370 page faults/s" in text


def test_the_header_says_the_phase_the_pause_and_what_is_left() -> None:
    assert "reading the prompt" in _text(SCENES["prompt"](), 80, 24)
    assert "54 s left" in _text(SCENES["prompt"](), 80, 24)
    assert "1:15 left" in _text(SCENES["loading"](), 80, 24)
    assert " PAUSED " in _text(one_gpu(), 80, 24, View(paused=True))


def test_the_end_of_a_run_wins_over_the_pause_and_over_the_last_phase() -> None:
    for paused in (False, True):
        title = _text(one_gpu(), 80, 24, View(paused=paused, over="GONE")).splitlines()[0]
        assert " GONE " in title
        assert "PAUSED" not in title
        assert "decoding" not in title
    title = _text(SCENES["error"](), 80, 24, View(paused=True)).splitlines()[0]
    assert " failed " in title
    assert "PAUSED" not in title


def test_what_was_planned_stands_on_a_line_of_its_own_where_there_is_room() -> None:
    def begins(width: int, height: int) -> dict[str, str]:
        text = _text(one_gpu(), width, height)
        return {line[:10].strip(): line[10:].rstrip() for line in text.splitlines()}

    assert begins(80, 40)["why"].endswith("its limit")
    assert begins(80, 40)["planned"].startswith("RAM read on CPU: 78.1")
    assert "RAM read on CPU" not in _text(SCENES["prompt"](), 80, 40)
    assert "planned" not in begins(80, 24)
    assert "planned" not in begins(60, 40)
    assert begins(60, 40)["why"] == "CPU experts 67.1 of 88.1 ms (76 %)"


@pytest.mark.parametrize("scene", SCENES)
def test_layers_never_stand_without_their_numbers(scene: str) -> None:
    for width, height in itertools.product((80, 119, 200), range(16, 60)):
        lines = _text(SCENES[scene](), width, height).splitlines()
        for above, line in itertools.pairwise(lines):
            if "attention 0" in line or "attention C" in line:
                assert "layer     0" in above, (width, height)


def test_each_view_shows_its_panel() -> None:
    wanted = {"devices": "CUDA0", "layers": "attention", "experts": "busiest tenth", "text": "gale"}
    for name, word in wanted.items():
        text = _text(one_gpu(), 100, 30, View(name))
        assert word in text
        assert f"{name}]" in text


def test_lines_go_first_to_what_is_needed_most() -> None:
    def panel(name: str, *levels: int) -> Panel:
        return Panel(name, levels, lambda width, height: [])

    panels = [panel("devices", 2, 4, 6), panel("experts", 1, 5), panel("text", *range(2, 99))]
    assert _rows(panels, 5) == {"devices": 2, "text": 2}
    assert _rows(panels, 7) == {"devices": 2, "experts": 1, "text": 3}
    assert _rows(panels, 8) == {"devices": 4, "experts": 1, "text": 2}
    assert _rows(panels, 20) == {"devices": 6, "experts": 5, "text": 8}


def _rows(panels: list[Panel], height: int) -> dict[str, int]:
    return {panel.name: rows for panel, rows in shares(panels, height)}


def _text(snapshot: Snapshot, width: int, height: int, view: View | None = None) -> str:
    lines = screen(snapshot, width, height, UNICODE, view or View())
    return "\n".join("".join(text for text, _ in line) for line in lines)
