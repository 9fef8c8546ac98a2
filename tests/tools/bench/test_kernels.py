"""Tiny shapes through the whole bench, and what its rows are made of."""

import json
import sys

import pytest
import torch

from kernels.formats import BY_NAME
from kernels.native.library import library
from tools.bench import kernels
from tools.bench.kernel_rows import measure, memory, shapes
from tools.bench.kernel_rows.experts import expert_bytes, ffn_groups
from tools.bench.kernel_rows.measure import Contender, Group, Measured, Setup, Work

TINY = ("--shapes", "tiny", "--rounds", "1", "--seconds", "1e-4", "--threads", "1")
ROUNDED_ERROR = 0.1  # of activations rounded to eight bits, on a few values


def run(capsys, *words: str) -> list[dict]:
    kernels.main([*TINY, *words])
    return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def setup_of(**changed) -> Setup:
    plain = {
        "shapes": {"tiny": shapes.SHAPES["tiny"]},
        "formats": [BY_NAME["Q4_K"]],
        "tiers": ["scalar"],
        "precisions": ["rounded"],
        "tokens": [1],
        "threads": 1,
        "cpus": [0],
        "seconds": 1e-4,
    }
    return Setup(**plain | changed)


@pytest.mark.parametrize("op", ["linear", "expert_ffn", "product", "latent_block"])
def test_products_read_ram_and_come_near_the_reference(op, capsys):
    rows = run(capsys, "--ops", op, "--formats", "Q4_K,IQ1_M", "--tokens", "1,3")
    assert {row["format"] for row in rows} == {"Q4_K", "IQ1_M"}
    assert len(rows) == 4
    for row in rows:
        assert row["op"] == op
        assert 0 < row["error"] < ROUNDED_ERROR
        assert row["best us"] == row["time us"] > 0
        assert row["vs first"] == 1
    assert rows[0]["of read"] > 0


def test_exact_activations_are_far_nearer(capsys):
    words = ("--ops", "linear,expert_ffn", "--formats", "Q8_0", "--tokens", "1")
    rounded, exact, *more = run(capsys, *words, "--activations", "all")
    assert [row["activations"] for row in (rounded, exact, *more)] == ["rounded", "exact"] * 2
    assert all(row["error"] < 1e-5 for row in (exact, more[1]))
    assert rounded["error"] > 100 * exact["error"]


def test_attention_runs_over_every_cache_format_and_over_prompts(capsys):
    rows = run(capsys, "--ops", "attention")
    assert [row["format"] for row in rows] == ["F16", "BF16", "Q8_0", "F32"]
    assert all(row["error"] < 1e-5 for row in rows)
    assert all(row["threads"] == 1 for row in rows)


def test_small_ops_and_decoding_are_right(capsys):
    words = ("--ops", "rms_norm,rope,router,dequantize", "--formats", "Q6_K", "--tokens", "2")
    rows = run(capsys, *words)
    assert {row["op"] for row in rows} == {"rms_norm", "rope", "router", "dequantize"}
    assert all(row["error"] < 1e-6 for row in rows)
    assert rows[-1]["error"] == 0


def test_tiers_this_processor_lacks_are_skipped_by_name(capsys, monkeypatch):
    monkeypatch.setattr(library(), "hybrid_has_tier", lambda tier: tier == 0)
    assert kernels.tiers_here(["scalar", "amx"]) == ["scalar"]
    assert "skipped amx" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--tiers best"):
        kernels.tiers_here(["amx"])


def test_the_best_tier_is_told_by_its_name():
    (name,) = kernels.tiers_here(["best"])
    assert measure.TIERS[name] == library().hybrid_best_tier()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ops", "convolution"), "expert_ffn"),
        (("--formats", "Q4_K,Q9_K"), "'Q9_K' is none of"),
        (("--tiers", "sse"), "avx2"),
        (("--tokens", "1,0"), "'0' is not a whole number"),
        (("--rounds", "x"), "'x' is not a whole number"),
    ],
)
def test_a_wrong_command_line_names_what_there_is(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        kernels.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_bytes_of_a_call_are_those_of_the_chosen_experts():
    setup = setup_of(tokens=[1])
    (group,) = ffn_groups(setup)
    ram = memory.RamMemory(group.ram_bytes)
    (contender,) = group.contenders(ram)
    one = expert_bytes(setup.shapes["tiny"], BY_NAME["Q4_K"])
    assert one == 3 * 256 * 512 * 144 // 256
    assert contender.work.nbytes == 2 * one
    assert contender.work.macs == 2 * 3 * 256 * 512


def timed_group(name, tiers, seconds):
    """A group whose contenders read 1e9 bytes a call and take these times."""

    def contenders(_memory):
        for tier in tiers:
            work = Work(tier, "-", 1, 1, nbytes=10**9)
            yield Contender(work, lambda _: next(seconds), lambda: 0.0)

    return Group(name, name, "1x1", 0, contenders)


def test_rounds_go_through_all_groups_and_ratios_stay_within_a_round(monkeypatch):
    monkeypatch.setattr(measure, "SLICES", 3)
    monkeypatch.setattr(measure.RamMemory, "read_gb_s", lambda memory, threads: 2.0)
    medians = [1.0, 0.5, 3.0, 1.0, 2.0, 0.5, 3.0, 1.0]
    slices = iter([slice_s for s in medians for slice_s in (s, 9 * s, s)])
    groups = [timed_group(name, ("scalar", "avx2"), slices) for name in "AB"]
    found, reads = measure.measure(groups, setup_of(), 2)
    assert [measured.seconds for measured in found] == [[1, 2], [0.5, 0.5], [3, 3], [1, 1]]
    assert found[1].ratios == [2.0, 4.0]
    assert found[1].shares == [1.0, 1.0]
    assert reads.all_threads == [2.0] * 3 * 8


def test_a_slice_is_held_against_the_reads_on_both_sides_of_it(monkeypatch):
    monkeypatch.setattr(measure, "SLICES", 1)
    given = iter([2.0, 6.0])
    monkeypatch.setattr(measure.RamMemory, "read_gb_s", lambda memory, threads: next(given))
    (found,), _ = measure.measure([timed_group("A", ("avx2",), iter([0.5]))], setup_of(), 1)
    assert found.shares == [0.5]


def test_a_row_has_a_cell_for_every_column():
    group = Group("linear", "Q4_K", "2x256", 0, lambda memory: ())
    full = Measured(group, Work("avx2", "rounded", 1, 2, 10**6, 2 * 10**6), 0.25)
    full.seconds, full.shares, full.ratios = [1e-3, 3e-3, 2e-3], [0.5, 0.7, 0.6], [1.0, 2.0, 1.5]
    cells = dict(zip(kernels.COLUMNS, kernels.row(full), strict=True))
    assert cells["time us"] == pytest.approx(2000)
    assert cells["best us"] == pytest.approx(1000)
    assert cells["read GB/s"] == pytest.approx(0.5)
    assert (cells["of read"], cells["vs first"], cells["error"]) == (0.6, 1.5, 0.25)
    assert cells["G MAC/s"] == pytest.approx(1)
    bare = Measured(group, Work("avx2", "-", 0, 1), 0.0, [1e-6], [], [1.0])
    cells = dict(zip(kernels.COLUMNS, kernels.row(bare), strict=True))
    assert [cells[name] for name in ("tokens", "read GB/s", "of read", "G MAC/s")] == ["-"] * 4


def test_weights_that_do_not_fit_are_told_with_both_sizes():
    with pytest.raises(SystemExit, match=r"weights of 1048576\.0 GiB.*GiB of RAM"):
        memory.RamMemory(1 << 50)


def test_blocks_are_a_pattern_repeated_through_the_whole_of_it():
    ram = memory.RamMemory(1 << 23)
    weight = ram.blocks(BY_NAME["Q6_K"], (3, 8000, 256))
    pattern_bytes = memory.PATTERN_BYTES // 210 * 210
    every = weight.blocks.flatten()
    assert len(every) > pattern_bytes
    assert torch.equal(every[pattern_bytes:], every[: len(every) - pattern_bytes])
    assert weight.blocks.data_ptr() % 64 == 0


def test_memory_is_given_out_anew_once_emptied():
    ram = memory.RamMemory(1 << 20)
    first = ram.raw(100).data_ptr()
    assert ram.raw(100).data_ptr() == first + 128
    ram.empty()
    assert ram.raw(100).data_ptr() == first


def test_a_peer_without_the_wheel_is_told():
    with pytest.raises(SystemExit, match="ik_llama_cpp is not installed"):
        kernels.main([*TINY, "--peer", sys.executable])
    with pytest.raises(SystemExit, match="cannot be run"):
        kernels.main([*TINY, "--peer", "/no/such/python"])
