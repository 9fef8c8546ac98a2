"""--ot beside -ot; several engines one after the other; failures and Ctrl-C among them."""

import csv
import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

import hybrid.runtime.load
from hybrid.cli import bench as bench_command
from hybrid.cli.bench_placements import add_placements_flag, placements_of
from hybrid.cli.parser import Parser
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.errors import GpuLost, UsageError
from hybrid.runtime.arena import HostArena
from hybrid.runtime.audit import process_bytes
from hybrid.runtime.options import CpuMoe
from placement.machines.machine import DeviceKind
from placement.solve import long_passes
from tests.cli.test_bad_input import assert_one_block

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("demo", "-p", "6", "-n", "2", "-r", "1", "-t", "1", "--simulate", "CUDA0=64MiB")
BOTH = ("--ot", "exps=CPU", "--ot", ".*=CUDA0")


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Reading a GiB of RAM takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("hybrid.runtime.bandwidth.ram_read_gb_s", lambda threads: 20.0)


def read(*words: str):
    parser = Parser("bench", "")
    add_placements_flag(parser)
    add_placement_flags(parser)
    return placements_of(parser.read(words))


def test_each_ot_with_two_dashes_is_a_placement_and_those_with_one_hold_for_all():
    first, second = read("--ot", "a=CPU,b=CUDA0", "-ot", "x=CPU", "--ot=c=CPU; d=CUDA0", "-cmoe")
    assert first.rules == ("a=CPU,b=CUDA0", "x=CPU", CpuMoe())
    assert second.rules == ("c=CPU", "d=CUDA0", "x=CPU", CpuMoe())
    assert [first.label, second.label] == ["1 a=CPU,b=CUDA0", "2 c=CPU; d=CUDA0"]


@pytest.mark.parametrize("word", ["auto", ""])
def test_a_placement_may_have_no_rules_of_its_own(word):
    [placement] = read("--ot", word, "-ot", "x=CPU")
    assert (placement.rules, placement.label) == (("x=CPU",), "1 auto")


def test_without_it_there_is_one_placement_without_a_name():
    [placement] = read("-ot", "x=CPU", "--override-tensor", "y=CPU")
    assert (placement.rules, placement.label) == (("x=CPU", "y=CPU"), "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), ""),
        (("-ot", "exps=CPU"), "-ot exps=CPU"),
        (("-cmoe",), "-cmoe"),
        (("-ncmoe", "3", "-ot", r"blk\.[4-5]\.=CUDA0"), r"-ncmoe 3 -ot 'blk\.[4-5]\.=CUDA0'"),
        (("-ngl", "all", "-ts", "3,1"), "-ngl all -ts 3,1"),
        (("-ngl", "auto", "--vram=CUDA0=-1GiB"), "-ngl auto --vram=CUDA0=-1GiB"),
        (("--ot", "a=CPU;b=CPU", "-ot", "x=CPU", "-ngl", "4"), "a=CPU;b=CPU -ot x=CPU -ngl 4"),
        (("--ot", "auto", "-cmoe"), "auto -cmoe"),
        (("--plan", "plan.json", "-ngl", "4"), "--plan plan.json"),
    ],
)
def test_a_placement_is_told_by_all_that_decides_it(words, text):
    [placement] = read(*words)
    assert placement.all_text == text


@pytest.mark.parametrize("flags", [("-ot", "exps=CPU"), ("-cmoe",), ("-ncmoe", "2")])
def test_results_tell_the_rules_that_are_not_of_one_placement(command, tmp_path, flags):
    path = tmp_path / "bench.csv"
    outcome = command("bench", *QUICK, *flags, "--csv", str(path))
    assert outcome.code == 0, outcome.err
    above, titles, *_, last = outcome.out.splitlines()
    assert (above, titles.split()[:2]) == (f"placement: {' '.join(flags)}", ["test", "tok/s"])
    [run] = json.loads(last)["placements"]
    assert run["rules"] == " ".join(flags)
    lines = csv.DictReader(path.read_text().splitlines())
    assert {line["rules"] for line in lines} == {" ".join(flags)}


def test_rules_of_all_placements_stand_in_each_of_them_and_once_above_the_table(command):
    outcome = command("bench", *QUICK, *BOTH, "-ot", "head=CPU")
    above, titles, first, *_, last = outcome.out.splitlines()
    assert (above, titles.split()[0]) == ("placement: -ot head=CPU", "test")
    assert first.split()[:3] == ["pp6", "1", "exps=CPU"]
    assert [run["rules"] for run in json.loads(last)["placements"]] == [
        *("exps=CPU -ot head=CPU", ".*=CUDA0 -ot head=CPU"),
    ]


def test_the_ot_of_llama_bench_is_told_what_to_type():
    with pytest.raises(UsageError) as raised:
        read("-ot", "a=CPU;b=CUDA0")
    assert "--ot 'A,B' --ot C" in str(raised.value)


def test_a_plan_takes_no_placement_beside_it():
    with pytest.raises(UsageError, match="--plan plan.json"):
        read("--plan", "plan.json", "--ot", "exps=CPU")


def test_placements_are_measured_one_after_the_other_into_one_table(command):
    outcome = command("bench", *QUICK, *BOTH, "--ot", "auto", "-d", "0,3")
    assert outcome.code == 0, outcome.err
    *rows, last = outcome.out.splitlines()
    answer = json.loads(last)
    assert [run["rules"] for run in answer["placements"]] == ["exps=CPU", ".*=CUDA0", "auto"]
    assert [test["placement"] for test in answer["tests"]] == [1, 2, 3] * 4
    reads = {test["placement"]: test["device_bytes_per_token"] for test in answer["tests"][3:6]}
    assert reads[1]["CPU"] > 0 == reads[2]["CPU"]
    assert [" ".join(row.split()[:3]) for row in rows[1:4]] == [
        *("pp6 1 exps=CPU", "pp6 2 .*=CUDA0", "pp6 3 auto"),
    ]
    assert "placement 2 of 3: .*=CUDA0" in outcome.err
    assert outcome.err.count("the RAM reads") == 1


def test_each_placement_tells_its_own_micro_batch(command, monkeypatch, tmp_path):
    monkeypatch.setattr(long_passes, "DeviceKind", SimpleNamespace(GPU=DeviceKind.SIMULATED_GPU))
    path = tmp_path / "bench.csv"
    line = ("-c", "1024", "--ot", ".*=CPU", "--ot", ".*=CUDA0", "--csv", str(path))
    outcome = command("bench", *QUICK, *line)
    assert outcome.code == 0, outcome.err
    *rows, _, last = outcome.out.splitlines()
    assert [run["ubatch_tokens"] for run in json.loads(last)["placements"]] == [512, 1024]
    assert [row.split()[3] for row in rows[1:]] == ["512", "1024", "-", "-"]
    lines = csv.DictReader(path.read_text().splitlines())
    assert [line["ubatch_tokens"] for line in lines] == ["512", "1024"] * 2


def test_each_placement_is_audited(command):
    outcome = command("bench", *QUICK, *BOTH, "--audit", "--json")
    weights = []
    for run in json.loads(outcome.out)["placements"]:
        assert {line["what"] for line in run["audit"]["speed"]} == {"prompt", "decode"}
        for line in run["audit"]["memory"]:
            if line["category"] == "weights":
                weights.append((run["placement"], line["device"]))
                assert line["planned_bytes"] == line["actual_bytes"]
    assert weights == [(1, "CPU"), (1, "CUDA0"), (2, "CUDA0")]


def test_foreign_flags_are_told_of_once(command):
    assert command("bench", *QUICK, *BOTH, "-fa").err.count("-fa has no effect") == 1


@pytest.fixture
def loads(monkeypatch) -> list[tuple[int, int]]:
    """(arenas alive, bytes of this process) at the beginning of every load."""
    alive: weakref.WeakSet[HostArena] = weakref.WeakSet()
    found: list[tuple[int, int]] = []
    load, opened = hybrid.runtime.load.load_prepared, HostArena.__init__

    def watched(*args):
        found.append((len(alive), process_bytes()))
        return load(*args)

    def noted(self, *args):
        opened(self, *args)
        alive.add(self)

    monkeypatch.setattr(hybrid.runtime.load, "load_prepared", watched)
    monkeypatch.setattr(HostArena, "__init__", noted)
    return found


def test_memory_is_free_before_the_next_engine_is_loaded(command, loads):
    outcome = command("bench", *QUICK, *BOTH * 3, "-c", "4096")
    assert outcome.code == 0, outcome.err
    assert [arenas for arenas, _ in loads] == [0] * 6
    assert loads[-1][1] - loads[1][1] < 4 << 20  # a third of what one engine holds


def test_an_engine_that_failed_while_measured_is_gone_too(command, loads, monkeypatch):
    measure = bench_command.measure

    def failing(engine, *args):
        results = measure(engine, *args)
        yield next(results)
        if len(loads) == 1:
            raise RuntimeError("CUDA out of memory")
        yield from results

    monkeypatch.setattr(bench_command, "measure", failing)
    outcome = command("bench", *QUICK, *BOTH)
    assert outcome.code == 1
    assert [arenas for arenas, _ in loads] == [0, 0]
    answer = json.loads(outcome.out.splitlines()[-1])
    assert [(test["placement"], test["test"]) for test in answer["tests"]] == [
        *((1, "pp6"), (2, "pp6"), (2, "tg2")),
    ]
    assert "memory ran out" in answer["placements"][0]["error"]["cause"]


def test_a_lost_gpu_ends_the_bench_behind_its_table_and_is_left_alone(command, loads, monkeypatch):
    measure = bench_command.measure

    def lost(*args):
        yield next(measure(*args))
        raise GpuLost("CUDA0 is lost", remedy="start again")

    ended = []
    monkeypatch.setattr(bench_command, "measure", lost)
    monkeypatch.setattr(bench_command, "free_engines", lambda: ended.append("freed"))
    monkeypatch.setattr(os, "_exit", ended.append)
    outcome = command("bench", *QUICK, *BOTH)
    assert (len(loads), ended) == (1, [1])
    assert outcome.out.splitlines()[1].startswith("pp6 ")
    assert "CUDA0 is lost" in outcome.err


@pytest.mark.parametrize("wrong", ["exps=CUDA7", "no device", "(=CPU", ".*=CUDA1"])
def test_a_placement_that_fails_leaves_the_others(command, wrong):
    line = (*QUICK, "--simulate", "CUDA0=64MiB,CUDA1=1MiB", "--ot", wrong, "--ot", "exps=CPU")
    outcome = command("bench", *line)
    assert outcome.code == 1
    assert outcome.err.count("error: ") == 1
    *rows, last = outcome.out.splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["pp6", "tg2"]
    assert rows[3].startswith(f"1 {wrong}: failed: ")
    first, second = json.loads(last)["placements"]
    assert (first["devices"], second["error"]) == (None, None)
    assert first["error"]["remedies"]


@pytest.mark.parametrize(
    ("code", "words", "flags"),
    [
        (1, "no file", ("none.gguf", *BOTH)),
        (1, "needs 512", ("demo", "-c", "64", *BOTH)),
        (2, "unknown device", ("demo", "--device", "CUDA9", *BOTH)),
    ],
)
def test_what_every_placement_would_meet_again_ends_it_at_once(command, code, words, flags):
    outcome = command("bench", *flags)
    assert (outcome.code, outcome.out) == (code, "")
    assert_one_block(outcome.err.partition("exps=CPU\n")[2], words)


def test_ctrl_c_prints_what_was_measured():
    line = (*QUICK, "-r", "1000", "-n", "200", "-p", "6", *BOTH)
    running = subprocess.Popen(
        [sys.executable, "-m", "hybrid", "bench", *line],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for told in running.stderr:
        if "pp6: " in told:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert err.endswith("interrupted\n")
    titles, row, last = out.splitlines()
    assert (titles.split()[0], row.split()[0]) == ("test", "pp6")
    answer = json.loads(last)
    assert answer["interrupted"] is True
    assert [test["test"] for test in answer["tests"]] == ["pp6"]
