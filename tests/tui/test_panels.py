"""Single panels: numbers, places and strips of small snapshots whose answer is known."""

from dataclasses import replace

import pytest

from hybrid.live.snapshot import LayerView, MemoryView, Progress, Snapshot
from hybrid.tui import experts, layers, ram, speed
from hybrid.tui.amounts import count, duration, ms, short_size, signed_percent, size
from hybrid.tui.devices import memory_bar
from hybrid.tui.findings import memory_warning
from hybrid.tui.keys import key_names
from hybrid.tui.lines import Line
from hybrid.tui.look import ASCII, COLOURS, UNICODE, look_of, memory_groups, style
from hybrid.tui.plain import plain_line
from hybrid.tui.screen import View, screen
from hybrid.tui.view import with_counts_of
from tests.tui.recorded import SCENES, cpu_only, four_gpus, one_gpu, prompt_phase


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (ms(0.000412), "0.41"),
        (ms(0.0671), "67.1"),
        (ms(0.0999), "99.9"),
        (ms(0.09996), "100"),
        (ms(12.3456), "12.3k"),
        (ms(None), "-"),
        (size(None), "-"),
        (size(377 << 30), "377 GiB"),
        (size(16 << 30, 24 << 30), "16.0"),
        (size(200 << 20), "200 MiB"),
        (size(12 << 20, 200 << 20), "12.0"),
        (size(12 << 20, 24 << 30), "12.0 MiB"),
        (size((1 << 30) - 1), "1.0 GiB"),
        (size((1 << 30) - (1 << 20)), "1023 MiB"),
        (size(1 << 14), "0.02 MiB"),
        (size(0, 24 << 30), "0"),
        (short_size(22 << 30), "22.0G"),
        (short_size(312 << 20), "312M"),
        (duration(59.6), "1:00"),
        (duration(7385), "2:03:05"),
        (duration(None), "-"),
        (count(12345), "12.3k"),
        (signed_percent(-0.123), "-12 %"),
        (signed_percent(0.001), "0 %"),
    ],
)
def test_amounts_are_short(written: str, meant: str) -> None:
    assert written == meant


def test_roles_and_categories_of_the_plan_are_both_known() -> None:
    roles = {"routed_expert": 4, "router": 1, "shared_expert": 2, "norm": 1, "attention": 1}
    assert memory_groups(roles) == {"attention": 2, "shared": 3, "routed": 4}
    assert memory_groups({"routed": 4, "unheard of": 1}) == {"routed": 4, "other": 1}


def test_every_glyph_of_a_part_is_another_one_and_has_a_colour() -> None:
    alike = {"routed": "experts", "embed+head": "head", "free": "waiting"}
    for look in (UNICODE, ASCII):
        names = [name for name in look.glyphs if name not in alike]
        assert len({look.glyphs[name] for name in names}) == len(names)
        assert set(look.glyphs) <= set(COLOURS)
    assert style("experts") is not None
    assert look_of("utf-8") is UNICODE
    assert look_of("ascii") is ASCII
    assert look_of(None) is ASCII


def test_the_memory_bar_shows_plan_budget_and_other_programs() -> None:
    memory = MemoryView({"routed": 40}, 10, 0, 0, 50, 80, 100, 45, None, 65)
    device = replace(one_gpu().devices[0], memory=memory)
    assert text_of(memory_bar(device, 10, UNICODE)) == "████░···│×"
    bare = replace(device, memory=replace(memory, actual_bytes=None))
    assert "×" not in text_of(memory_bar(bare, 10, UNICODE))


def test_more_layers_than_columns_share_them_and_several_places_are_a_plus() -> None:
    shown = tuple(
        LayerView(index, f"CUDA{index // 50}", ("CPU",) if index else (), 1e-4, 1e-3)
        for index in range(100)
    )
    lines = layers.layers(replace(four_gpus(), layers=shown), 10 + 34, 2, UNICODE)
    assert text_of(lines[0]) == "attention " + "0" * 16 + "+" + "1" * 17
    assert text_of(lines[1]) == "experts   " + "+" + "C" * 33


def test_a_layer_over_several_devices_is_a_plus_and_a_dense_one_a_dash() -> None:
    shown = (LayerView(0, "CPU", ()), LayerView(1, "CUDA10", ("CUDA1", "CPU")))
    lines = layers.layers(replace(four_gpus(), layers=shown), 18, 2, ASCII)
    assert text_of(lines[0]) == "attention CCC???"
    assert text_of(lines[1]) == "experts   ---+++"


def test_the_ruler_stands_above_its_layers() -> None:
    lines = [text_of(line) for line in layers.layers(four_gpus(), 80, 6, UNICODE)]
    for number in (0, 10, 60):
        assert lines[0][10 + number :].startswith(str(number))
    assert lines[2].startswith("  time")


def test_layers_without_times_have_no_heights() -> None:
    lines = layers.layers(prompt_phase(), 80, 6, UNICODE)
    assert not any(text_of(line).startswith("  time") for line in lines)


def counted(*usage: tuple[int, ...]) -> Snapshot:
    views = [LayerView(index, "CPU", ("CPU",), usage=each) for index, each in enumerate(usage)]
    return replace(four_gpus(), layers=tuple(views))


def test_the_hottest_expert_of_a_cell_is_seen_and_an_even_layer_is_cold() -> None:
    skewed = (0,) * 63 + (64,)
    even = (1,) * 64
    lines = experts.experts(counted(skewed, even, even), 10 + 32, 4, UNICODE)
    assert text_of(lines[0])[10:] == "·" * 31 + "█"
    assert set(text_of(lines[1])[10:]) == {text_of(lines[1])[10]}
    assert "█" not in text_of(lines[1])
    assert text_of(lines[3]).strip().startswith("busiest tenth")


def test_the_share_of_the_busiest_tenth() -> None:
    assert experts.hot_share((1,) * 20) == pytest.approx(0.1)
    assert experts.hot_share((10, 10) + (0,) * 18) == 1.0


def test_uncounted_layers_draw_nothing() -> None:
    assert experts.experts(counted((), (0, 0)), 80, 10, UNICODE) == []
    assert experts.levels(counted(()), 10) == []


def test_nodes_that_do_not_fit_are_drawn_as_one() -> None:
    lines = [text_of(line) for line in ram.ram(one_gpu(), 120, 1, UNICODE)]
    assert len(lines) == 1
    assert lines[0].startswith("2 nodes")
    assert "295 of 338 GB/s" in lines[0]
    assert "experts 67.1 ms" in lines[0]
    silent = replace(one_gpu().nodes[0], read_bytes_s=None, experts_read_bytes_s=None)
    partly = replace(one_gpu(), nodes=(silent, one_gpu().nodes[1]))
    assert "- of 338 GB/s" in text_of(ram.ram(partly, 120, 1, UNICODE)[0])


def test_every_core_has_its_height() -> None:
    node = replace(cpu_only().nodes[0], core_load=(1.0, 0.0, 0.5))
    line = text_of(ram.ram(replace(cpu_only(), nodes=(node,)), 130, 1, UNICODE)[0])
    assert line.endswith("cores █▁▅")


def test_the_charts_axis_is_written_and_slow_beginnings_do_not_stretch_it() -> None:
    rates = replace(one_gpu().rates, history=(0.5, *(10.0,) * 60, 9.0))
    lines = speed.speed(replace(one_gpu(), rates=rates), 100, 3, UNICODE)
    texts = [text_of(line) for line in lines]
    assert texts[0].split()[0] == "10.0"
    assert float(texts[2].split()[0]) == pytest.approx(8.0)
    one = text_of(speed.speed(replace(one_gpu(), rates=rates), 100, 1, UNICODE)[0])
    assert one.startswith("tok/s")
    assert one.endswith("8.00-10.0")


@pytest.mark.parametrize("scene", SCENES)
def test_the_plain_line_is_one_line_of_print(scene: str) -> None:
    line = plain_line(replace(SCENES[scene](), error="a\n\x1b[31mb"))
    assert line.isprintable()
    assert line.startswith(SCENES[scene]().phase.value)
    assert "None" not in line


def test_the_plain_line_says_rates_devices_and_reason() -> None:
    line = plain_line(one_gpu())
    assert line.startswith(
        "decode 11.1 tok/s, run 11.2, 11.0 over 10 s, predicted 11.1 (-1 %); 2310 tokens"
    )
    assert "CUDA0 13.2 of 24.0 GiB" in line
    assert "RAM 223 of 338 GB/s" in line
    assert "CPU experts 67.1 of 88.1 ms (76 %)" in line


def test_a_single_tokens_time_is_not_shown_as_the_time_of_tokens() -> None:
    slow = replace(one_gpu(), rates=replace(one_gpu().rates, ms_a_token=1.13))
    texts = [text_of(line) for line in screen(slow, 120, 24, UNICODE, View())]
    [line] = [text for text in texts if "tok/s now" in text]
    assert "last token 1.13 ms" in line
    assert "1.13 ms a token" not in line


def test_the_plain_line_calls_shared_experts_shared() -> None:
    gpu, cpu = one_gpu().devices
    slow = replace(gpu, seconds={"experts": 0.08, "waiting": 0.0081})
    line = plain_line(replace(one_gpu(), devices=(slow, replace(cpu, seconds={}))))
    assert "CUDA0 shared 80.0 of 88.1 ms" in line


def test_sizes_below_a_gib_are_written_in_mib_wherever_they_stand() -> None:
    mib = 1 << 20
    memory = MemoryView({"routed": 40 * mib}, 0, 0, 0, 41 * mib, 80 * mib, 204 * mib, 9 * mib)
    device = replace(cpu_only().devices[0], memory=memory)
    progress = Progress("weights", "bytes", 10 * mib, 200 * mib, None, None)
    small = replace(cpu_only(), devices=(device,), progress=progress)
    assert "CPU 9.00 of 204 MiB" in plain_line(small)
    for width in (80, 200):
        text = "\n".join(text_of(line) for line in screen(small, width, 24, UNICODE, View()))
        assert "9.00 of 204 MiB" in text
        assert "10.0 of 200 MiB" in text
    over = replace(memory, actual_bytes=90 * mib)
    assert memory_warning(over) == "holds 90.0 MiB, budget 80.0"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1b[Z\t 2", ["back-tab", "tab", "space", "2"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[15~q", ["q"]),
        (b"\xff\x00\r", ["enter"]),
    ],
)
def test_bytes_are_keys(data: bytes, names: list[str]) -> None:
    assert key_names(data) == names


def test_counts_are_kept_while_the_rest_goes_on() -> None:
    earlier = counted((1, 2))
    newest = replace(counted((5, 6)), at=earlier.at + 1)
    shown = with_counts_of(newest, earlier)
    assert shown.layers[0].usage == (1, 2)
    assert shown.at == newest.at
    assert with_counts_of(newest, replace(earlier, layers=())) is newest
