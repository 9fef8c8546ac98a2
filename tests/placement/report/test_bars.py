import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.report.bars import BLOCKS, LETTERS, bar_cells, bar_lines, can_show_blocks
from placement.report.device_memory import CATEGORIES, DeviceMemory
from tests.placement.models import GIB


def device(budget: int, **nbytes: int) -> DeviceMemory:
    return DeviceMemory("CUDA0", budget, tuple((name, nbytes.get(name, 0)) for name in CATEGORIES))


def test_a_bar_is_as_long_as_the_budget_and_shows_what_is_free() -> None:
    lines = bar_lines([device(10 * GIB, routed=5 * GIB, cache=GIB)], 48, LETTERS)
    assert lines[0] == "CUDA0  RRRRRRRRRRKK........  6.0 GiB of 10.0 GiB"
    assert lines[1] == "R routed  K cache"


def test_every_category_has_a_glyph_of_its_own() -> None:
    for glyphs in (BLOCKS, LETTERS):
        assert set(glyphs) == {*CATEGORIES, "free"}
        assert len(set(glyphs.values())) == len(glyphs)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1 << 40), min_size=len(CATEGORIES), max_size=len(CATEGORIES)),
    st.integers(0, 1 << 41),
    st.integers(10, 80),
)
def test_cells_sum_to_the_bar_and_none_is_off_by_more_than_one(sizes, budget, cells) -> None:
    memory = DeviceMemory("CUDA0", budget, tuple(zip(CATEGORIES, sizes, strict=True)))
    found = bar_cells(memory, cells)
    assert sum(count for _, count in found) == cells
    assert all(count >= 0 for _, count in found)
    whole = max(budget, sum(sizes), 1)
    shown = dict(found)
    for name, nbytes in memory.parts:
        assert abs(shown.get(name, 0) - nbytes * cells / whole) <= 1


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False)]
)
def test_block_characters_need_an_encoding_that_has_them(encoding: str | None, can: bool) -> None:
    assert can_show_blocks(encoding) is can


def test_lines_and_legend_stay_within_the_width() -> None:
    full = device(100 * GIB, **dict.fromkeys(CATEGORIES, 10 * GIB))
    for width in (45, 60, 90):
        assert all(len(line) <= width for line in bar_lines([full], width))


def test_a_device_with_no_room_and_no_bytes_has_no_bar() -> None:
    assert len(bar_lines([device(GIB), device(0)], 60)) == 2


def test_bars_of_many_gpus_alike_are_one() -> None:
    gpus = [
        DeviceMemory(f"CUDA{i}", 10 * GIB, (("routed", 5 * GIB if i else GIB),)) for i in range(16)
    ]
    lines = bar_lines(gpus, 60, LETTERS)
    assert [line.split()[0] for line in lines] == ["CUDA0", "CUDA1-15", "R"]
    assert max(map(len, lines)) <= 60
