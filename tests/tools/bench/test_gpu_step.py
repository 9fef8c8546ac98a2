"""The trace of a decode step: parts that add up, on emulated and played GPUs."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

import hybrid
from hybrid.errors import UsageError
from placement.cost.traffic import decode_traffic
from placement.machines.machine import CPU
from tests.runtime.gpu.emulated import load_emulated
from tools.bench import gpu_step, gpu_step_parts
from tools.bench.gpu_step_parts import (
    FIRST_OF_STEP,
    Launch,
    Watch,
    kernel_times,
    part_times,
    plain_steps,
    short_name,
    stamped_steps,
)

GIB = 1 << 30
TOKENS = 3


class Owner:
    """With a clock that stands while nothing is called."""

    now_s = 100.0

    def outer(self) -> str:
        self.now_s += 2
        self.inner()
        self.now_s += 1
        return "done"

    def inner(self) -> None:
        self.now_s += 5


def test_calls_inside_of_calls_count_for_themselves_alone(monkeypatch):
    owner, watch = Owner(), Watch()
    monkeypatch.setattr(gpu_step_parts, "perf_counter", lambda: owner.now_s)
    watch.method(owner, "outer", "outer")
    watch.method(owner, "inner", "inner")
    assert owner.outer() == "done"
    watch.end()
    owner.outer()
    assert watch.seconds == {"outer": [3], "inner": [5]}


def test_overlapping_kernels_and_gaps_add_up_to_the_span():
    launches = [
        Launch(f"void hybrid::{FIRST_OF_STEP}<256, 4>(hybrid::BeginRecord)", 0, 10, 12),
        Launch("matvec", 0, 11, 15),
        Launch("argmax", 0, 12, 14),  # all of it beside the one before
        Launch("matvec", 0, 18, 20),
        Launch(f"void hybrid::{FIRST_OF_STEP}<256, 4>(hybrid::BeginRecord)", 0, 27, 28),
    ]
    found = kernel_times(reversed(launches))
    moved = {name: each.moved_us for name, each in found.kernels.items()}
    assert moved == {"begin_step<256, 4>": 3, "matvec": 3 + 2, "argmax": 0}
    assert found.kernels["matvec"].own_us == [4, 2]
    assert (found.gaps_us, found.idle_us) == (3, 7)
    assert found.busy_us + found.gaps_us + found.idle_us == 28 - 10


BEGIN = f"void hybrid::{FIRST_OF_STEP}<256, 4>(hybrid::BeginRecord)"
STAMP = "void hybrid::stamp<(int)32, int>(hybrid::StampRecord)"
STEP = (
    *(BEGIN, "matvec", "absorbed_split", "unfold", "matvec", "expert_hidden", "expert_down"),
    *("matvec", "absorbed_split", "unfold", "matvec"),
    *("route<1>", "expert_hidden_one", "expert_down_one"),
    *("matvec", "argmax", "Memcpy DtoH (Device -> Pinned)"),
)


def launched(names, start_us=0.0):
    """One after the other, each a microsecond longer than the one before, all start 2 early."""
    found = []
    for number, name in enumerate(names, 1):
        found.append(Launch(name, 0, max(start_us - 2.0, 0.0), start_us + number))
        start_us += number
    return found


def test_a_steps_parts_are_told_by_the_order_of_its_kernels():
    head, copied = 15 + 16, 17
    assert part_times(launched(STEP), routed_here=True) == {
        "crossing": 1 + copied,
        "attention": 2 + 3 + 4 + 5 + 8 + 9 + 10 + 11,
        "dense": 6 + 7,
        "experts": 12 + 13 + 14,
        "head": head,
    }
    in_ram = (*STEP[:14], "receive", *STEP[14:])
    found = part_times(launched(in_ram), routed_here=False)
    assert (found["experts"], found["dense"]) == (12, 6 + 7 + 13 + 14)
    assert (found["waiting"], found["head"]) == (15, head + 2)
    assert sum(found.values()) == sum(range(1, 19))


def test_what_a_gpu_looks_up_between_steps_is_no_part_of_the_head():
    between = (*STEP, "Memcpy HtoD (Pinned -> Device)", "index_select", "Memcpy DtoH")
    parts = part_times(launched(between), routed_here=True)
    assert parts["head"] == 15 + 16
    assert parts["crossing"] == 1 + 17 + 18 + 19 + 20


def test_a_gap_is_of_the_part_behind_it_and_what_overlaps_counts_once():
    step = [
        Launch(BEGIN, 0, 10, 12),
        Launch("matvec", 0, 11, 15),
        Launch("route", 0, 12, 14),
        Launch("expert_hidden", 0, 15, 18),
        Launch("expert_down", 0, 20, 22),
        Launch("argmax", 0, 22, 25),
    ]
    parts = part_times(step, routed_here=True)
    assert parts == {"crossing": 2, "attention": 3, "experts": 7, "head": 3}


def test_steps_with_stamps_are_told_apart():
    stamped = (STAMP, STEP[0], STAMP, *STEP[1:], STAMP, STAMP)
    launches = launched(("prompt", STAMP, *STEP, *STEP, *stamped, *STEP))
    found = plain_steps(reversed(launches))
    assert [[launch.name for launch in step] for step in found] == [list(STEP)] * 3
    [found] = stamped_steps(reversed(launches))
    assert [launch.name for launch in found] == list(STEP)


def test_kernels_are_named_without_what_their_names_share():
    name = "void hybrid::matvec<(int)1, hybrid::Q8_0, hybrid::Q4_K>(hybrid::MatvecRecord)"
    assert short_name(name) == "matvec<1, Q8_0, Q4_K>"
    assert short_name("Memcpy DtoH (Device -> Pinned)") == "Memcpy DtoH (Device -> Pinned)"


def traced(path: Path, options: dict[str, object]) -> tuple[list[list[object]], bool]:
    """Rows of the host, and whether the engine is left as it was."""
    engine = load_emulated(path, context=32, **options)
    model = engine._model
    chains = gpu_step.chains_of(engine)
    rows = gpu_step.host_rows(gpu_step.Run(engine, [1, 2, 3], TOKENS), chains)
    watched = [thing for thing in (engine, *chains) if {"_pass", "_write"} & set(vars(thing))]
    return rows, engine._model is model and not watched


PLACES = {
    "experts in RAM": ({"simulate": {"CUDA0": GIB}, "rules": ["exps=CPU"]}, 1, 2),
    "two GPUs and the CPU": (
        {
            "simulate": {"CUDA0": GIB, "CUDA1": GIB},
            "rules": [r"blk\.[01]\..*attn=CUDA0", r"blk\.2\..*attn=CUDA1", "exps=CPU"],
        },
        2,
        2,
    ),
    "all on the GPU": ({"simulate": {"CUDA0": GIB}, "rules": [".*=CUDA0"]}, 1, 0),
}


@pytest.mark.parametrize(("options", "graphs", "crossings"), PLACES.values(), ids=PLACES.keys())
def test_parts_on_the_hosts_clock_add_up_to_the_token(
    options, graphs, crossings, tiny_model, interpreter
):
    rows, as_before = interpreter.submit(traced, tiny_model, options).result()
    assert as_before
    times = {row[0]: row[1] for row in rows}
    assert Counter(row[0] for row in rows).most_common(1)[0][1] == 1
    assert times["host: launch of the graph"] == graphs
    assert times["host: embedding"] == times["sum: token"] == 1
    assert times.get("CPU: experts of a block", 0) == crossings
    assert times.get("CPU: waits for the GPU's crossing", 0) == crossings
    *parts, total = (row[-1] for row in rows)
    assert sum(parts) == pytest.approx(total)
    assert all(part >= 0 for part in parts)


def test_a_placement_without_a_graph_is_told(tiny_model):
    engine = hybrid.load(tiny_model, devices=("none",), context=32)
    with pytest.raises(UsageError, match="no block of this placement") as raised:
        gpu_step.chains_of(engine)
    assert "exps=CPU" in str(raised.value)


def test_the_limit_is_what_reading_a_tokens_bytes_takes(tiny_model):
    engine = hybrid.load(tiny_model, simulate={"CUDA0": GIB}, rules=["exps=CPU"], context=32)
    traffic = decode_traffic(engine.plan, engine.prepared.inventory, 9)
    rows = gpu_step.limit_rows(engine, 9, 4000.0, 80.0)
    on_gpu, in_ram = traffic["CUDA0"].total_bytes, traffic[CPU].total_bytes
    assert rows[-1][-1] == pytest.approx(on_gpu / 4000e3 + in_ram / 80e3)
    assert any("CUDA0 reads" in row[0] and "4000 GB/s" in row[0] for row in rows)


def test_without_a_gpu_there_is_one_line_and_a_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device.*decode step(.|\n)*try "):
        gpu_step.main(["demo"])


@pytest.mark.gpu
@pytest.mark.parametrize("rules", [".*=CUDA0", "exps=CPU"])
def test_the_trace_of_the_demo_names_its_kernels(rules, capsys):
    gpu_step.main(["demo", "-d", "64", "-n", "16", "-ot", rules, "--device", "CUDA0"])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    us = {row["part"]: row["us a token"] for row in rows}
    kernels = [part for part in us if part.startswith("GPU 0: ")]
    for name in ("begin_step", "matvec", "argmax", "sum of a step"):
        assert any(name in part for part in kernels), name
    assert 0 < us["GPU 0: sum of a step"] < 2 * us["measured: token, GPU profiled"]
    assert 0 < us["limit: sum of the devices"] < us["measured: token, nothing watched"]
