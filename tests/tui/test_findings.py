"""What the screen concludes: the slowest work, the RAM's speed, what is amiss."""

from dataclasses import replace

import pytest

from hybrid.live.snapshot import Comparison, MemoryView, Phase, Snapshot
from hybrid.tui.findings import (
    difference,
    memory_warning,
    predicted_tok_s,
    read_speed,
    reason,
    slowest,
    warnings,
)
from hybrid.tui.look import UNICODE
from hybrid.tui.plain import plain_line
from hybrid.tui.ram import ram
from hybrid.tui.screen import View, screen
from hybrid.tui.sensors import sensor_lines
from tests.tui.recorded import cpu_only, four_gpus, nothing_measured, one_gpu, sixteen_gpus


def test_waiting_is_never_the_slowest_work() -> None:
    found = slowest(one_gpu())
    assert found is not None
    assert (found.devices, found.part) == ("CPU", "experts")
    assert found.share == pytest.approx(0.0671 / 0.0881)


def test_gpus_that_work_one_after_another_are_taken_together() -> None:
    found = slowest(sixteen_gpus())
    assert found is not None
    assert (found.devices, found.part) == ("16 GPUs", "experts")
    assert found.seconds == pytest.approx(16 * 0.00142 + 4 * 0.0006)


def test_nothing_measured_has_no_reason() -> None:
    assert slowest(nothing_measured()) is None
    assert reason(nothing_measured()) == ""


def test_the_reason_is_of_measured_figures_alone() -> None:
    assert sixteen_gpus().facts.limit
    assert reason(sixteen_gpus()) == "16 GPUs experts 25.1 of 49.0 ms (51 %)"


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.9, "90 % of 100 GB/s, its limit"), (0.8, "at 80 % of its"), (0.5, "at only 50 % of its")],
)
def test_the_reason_says_how_fast_the_ram_is_read(share: float, words: str) -> None:
    node = replace(cpu_only().nodes[0], read_bytes_s=share * 100e9, read_limit_bytes_s=100e9)
    assert words in reason(replace(cpu_only(), nodes=(node,)))


def test_a_node_that_says_nothing_makes_the_sum_absent() -> None:
    silent = replace(one_gpu().nodes[0], read_bytes_s=None)
    assert read_speed(replace(one_gpu(), nodes=(silent, one_gpu().nodes[1]))) == (None, 338e9)
    without = replace(one_gpu(), nodes=())
    assert read_speed(without) == (223e9, 338e9)


def test_the_ram_is_judged_by_the_time_in_which_experts_read_it() -> None:
    assert "RAM at 87 % of 338 GB/s, its limit" in reason(one_gpu())
    nodes = tuple(replace(node, experts_read_bytes_s=None) for node in one_gpu().nodes)
    assert "RAM at only 66 % of its 338 GB/s" in reason(replace(one_gpu(), nodes=nodes))


def test_a_limit_that_nobody_measured_is_said_to_be_about() -> None:
    nodes = tuple(replace(node, read_limit_is_measured=False) for node in one_gpu().nodes)
    shown = replace(one_gpu(), nodes=nodes)
    assert "RAM at 87 % of about 338 GB/s" in reason(shown)
    assert "RAM 223 of about 338 GB/s" in plain_line(shown)
    assert "149 of about 169 GB/s" in str(ram(shown, 120, 3, UNICODE))
    cpu = replace(one_gpu().devices[1], read_limit_is_measured=False)
    assert "reads 223 of about 338 GB/s" in str(sensor_lines(cpu, 120, 3, UNICODE))


def test_the_difference_is_of_the_phase_that_runs() -> None:
    assert difference(one_gpu()) == pytest.approx(11.0 / 11.1 - 1)
    assert predicted_tok_s(one_gpu(), Phase.DECODE) == 11.1
    assert predicted_tok_s(one_gpu(), Phase.PROMPT) == 481.0
    prompt = replace(one_gpu(), phase=Phase.PROMPT, compared=Comparison(2048, 240.5, 470.0))
    assert difference(prompt) == pytest.approx(240.5 / 470 - 1)
    assert predicted_tok_s(prompt, Phase.PROMPT) == 470.0
    assert predicted_tok_s(prompt, Phase.DECODE) == 11.4
    assert difference(nothing_measured()) is None


@pytest.mark.parametrize("phase", [Phase.DECODE, Phase.PROMPT, Phase.IDLE, Phase.ENDED])
def test_the_difference_stands_beside_both_numbers_that_it_is_of(phase: Phase) -> None:
    off = replace(one_gpu(), phase=phase, compared=Comparison(900, 317.0, 674.0))
    over = "lately" if phase is Phase.PROMPT else "over 10 s"
    beside = f"317 {over}, predicted 674 (-53 %)"
    assert beside in plain_line(off).split(";")[0]
    for width in (80, 120):
        lines = screen(off, width, 24, UNICODE, View())
        assert any(beside in "".join(text for text, _ in line) for line in lines)


def test_speeds_that_no_prediction_is_of_the_like_are_not_amiss() -> None:
    slow = replace(one_gpu().rates, decode_run_tok_s=0.1, prompt_now_tok_s=0.1)
    for phase in (Phase.DECODE, Phase.PROMPT):
        shown = replace(one_gpu(), phase=phase, rates=slow, compared=None)
        assert _without_notes(shown) == []
        assert "(-" not in plain_line(replace(shown, notes=())).split(";")[0]


def test_a_prediction_missed_by_more_than_its_error_is_amiss() -> None:
    assert any("14.1 were predicted after 4182 tokens" in text for text in warnings(four_gpus()))
    assert _without_notes(one_gpu()) == []


def _without_notes(snapshot: Snapshot) -> list[str]:
    return warnings(replace(snapshot, notes=()))


@pytest.mark.parametrize(
    ("faults_s", "disc_gb_s", "words"),
    [
        (16.0, 0.02, ""),
        (160.0, 0.02, "160 page faults/s"),
        (160.0, None, "160 page faults/s"),
        (16.0, 20.0, "weights come from the disc: 20.0 of 291 GB/s, 16 page faults/s"),
        (None, 20.0, "weights come from the disc: 20.0 of 291 GB/s"),
        (None, None, ""),
    ],
)
def test_only_bytes_in_the_measure_of_what_a_token_reads_are_called_weights(
    faults_s: float | None, disc_gb_s: float | None, words: str
) -> None:
    read = disc_gb_s and disc_gb_s * 1e9
    host = replace(one_gpu().host, major_faults_s=faults_s, disc_read_bytes_s=read)
    node = replace(one_gpu().nodes[0], read_bytes_s=291e9)
    snapshot = replace(one_gpu(), host=host, nodes=(node,))
    assert warnings(snapshot) == ([words] if words else [])


def test_a_run_that_has_just_begun_is_not_blamed_for_its_programs_pages() -> None:
    host = replace(one_gpu().host, major_faults_s=5000.0, disc_read_bytes_s=2e10)
    young = replace(one_gpu(), host=host, at=one_gpu().facts.started_at + 4.9)
    assert warnings(young) == []
    assert len(warnings(replace(young, at=young.at + 1))) == 1
    assert warnings(replace(young, at=young.at + 1, phase=Phase.LOADING)) == []


def _with_cache(command: str, used_tokens: int) -> Snapshot:
    """One device, one cache of 16384 tokens; nothing else is amiss."""
    [cpu] = cpu_only().devices
    facts = replace(cpu_only().facts, command=command)
    return replace(
        cpu_only(), facts=facts, devices=(replace(cpu, cache_used_tokens=used_tokens),), notes=()
    )


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_text_that_nears_the_end_of_its_context_is_amiss(command: str) -> None:
    assert warnings(_with_cache(command, 14745)) == []
    assert warnings(_with_cache(command, 14746)) == ["CPU cache 14746 of 16384 tokens"]


@pytest.mark.parametrize("command", ["perplexity", "bench"])
def test_a_window_that_is_full_by_design_is_not_amiss(command: str) -> None:
    full = _with_cache(command, 16384)
    assert warnings(full) == []
    assert "amiss" not in plain_line(full)


@pytest.mark.parametrize(
    ("actual", "used", "words"),
    [
        (95, 50, "holds 95.0 GiB, budget 90.0"),
        (50, 96, "memory 96.0 of 100 GiB in use"),
        (50, 60, ""),
        (None, None, ""),
    ],
)
def test_memory_near_its_end_is_said(actual: int | None, used: int | None, words: str) -> None:
    gib = 1 << 30
    memory = MemoryView(
        {},
        0,
        0,
        0,
        planned_bytes=0,
        budget_bytes=90 * gib,
        total_bytes=100 * gib,
        actual_bytes=actual and actual * gib,
        used_by_all_bytes=used and used * gib,
    )
    assert memory_warning(memory) == words
