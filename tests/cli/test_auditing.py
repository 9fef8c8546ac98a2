import json
import re

import pytest

from hybrid.runtime.prepare import model_path
from placement.cost import predict
from placement.machines.machine import CPU
from placement.machines.probe import probe_machine
from placement.machines.profile import find_profile, profile_text, store_profile
from tools.make_header import make_header

GIB = 1 << 30
RUN = ("run", "demo", "-p", "Once upon a time", "-n", "10", "-c", "64", "-s", "1")


def test_a_run_prints_its_audit_after_loading_and_at_the_end(command):
    outcome = command(*RUN, "--audit", "--device", "none")
    assert outcome.code == 0
    assert outcome.err.count("audit") == 2
    tables = outcome.err.split("audit")
    assert "decode @" not in tables[1]
    assert "decode @" in tables[2]
    assert "prompt @ 0" in tables[2]
    assert "CPU" in tables[2]


def test_the_audit_is_part_of_the_json(command):
    outcome = command(*RUN, "--audit", "--json", "--simulate", "CUDA0=64MiB")
    audit = json.loads(outcome.out)["audit"]
    lines = {(line["device"], line["category"]): line for line in audit["memory"]}
    for device in ("CPU", "CUDA0"):
        line = lines[device, "weights"]
        assert line["planned_bytes"] == line["actual_bytes"] > 0
    assert lines["CUDA0", "cache"]["actual_bytes"] == lines["CUDA0", "cache"]["planned_bytes"]
    assert {line["what"] for line in audit["speed"]} == {"prompt", "decode"}
    assert {line["predicted"] for line in audit["speed"]} == {None}  # the CPU plays CUDA0


@pytest.mark.parametrize(
    ("measured", "cached_bytes", "teaches"),
    [(True, 0, True), (False, 0, False), (True, GIB, False)],
)
def test_what_a_run_teaches_is_kept_with_a_measured_machine(
    command, tmp_path, monkeypatch, measured, cached_bytes, teaches
):
    monkeypatch.setattr(predict, "CACHED_MODEL_BYTES", cached_bytes)
    folder, machine = tmp_path / "cache" / "hybrid", probe_machine()
    if measured:
        figures = {CPU: {"read_gb_s": 20.0, "matmul_tflops": 0.15}}
        store_profile(machine, profile_text(machine, figures, "2026-11-21", 0.15), folder)
    long = ("run", "demo", "-p", "Once upon a time" * 20, "-n", "40", "-c", "256", "-s", "1")
    outcome = command(*long, "--audit", "--device", "none")
    assert ("kept for predictions" in outcome.err) == teaches
    speeds = find_profile(machine, folder).speeds
    taught = dict(speeds.calibration.ratios) if speeds else {}
    # a disturbed rate may be none to learn from: either kind is there once, or not at all
    assert bool(taught) == teaches
    assert {kind: len(ratios) for kind, ratios in taught.items()}.items() <= {
        ("decode_cpu", 1),
        ("prompt_cpu", 1),
    }


def test_a_run_of_few_tokens_is_told_and_not_kept(command, tmp_path):
    folder, machine = tmp_path / "cache" / "hybrid", probe_machine()
    text = profile_text(machine, {CPU: {"read_gb_s": 20.0}}, "2026-11-21", 0.15)
    store_profile(machine, text, folder)
    outcome = command(*RUN, "--audit", "--device", "none")
    assert "decode @" in outcome.err
    assert "kept for predictions" not in outcome.err


def test_without_the_flag_nothing_is_audited(command):
    outcome = command(*RUN, "--json")
    assert "audit" not in json.loads(outcome.out)
    assert "audit" not in outcome.err


def test_a_bench_audits_each_test(command):
    line = ("bench", "demo", "-p", "16", "-n", "10", "-d", "0,32", "-r", "1", "--audit", "--json")
    [placement] = json.loads(command(*line).out.splitlines()[-1])["placements"]
    audit = placement["audit"]
    found = [(line["what"], line["depth"], line["tokens"]) for line in audit["speed"]]
    assert sorted(found) == [
        ("decode", 5, 10),
        ("decode", 37, 10),
        ("prompt", 0, 16),
        ("prompt", 32, 16),
    ]


def test_a_plan_emits_a_command_line_of_either_program(command):
    flags = ("plan", "demo", "--simulate", "CUDA0=128MiB", "-ot", "exps=CPU", "-c", "256")
    ours = command(*flags, "--emit", "llama.cpp")
    assert ours.code == 0
    assert ours.out.startswith(f"llama-server -m {model_path('demo')} -ngl 6 \\\n   -ot '^blk")
    assert "-mla 3" in command(*flags, "--emit", "ik").out
    refused = command(*flags[:4], "-ot", "exps#0-3=CUDA0", "--emit", "ik")
    assert "rule 1 without its '#' moves whole tensors" in refused.err
    assert (refused.code, "cannot place experts 0-3" in refused.err) == (1, True)


def test_flags_that_another_program_can_follow_are_told_with_their_speeds_and_work(
    command, tmp_path
):
    header = str(make_header(tmp_path / "r1.gguf"))
    flags = ("plan", header, "--machine", "2xepyc-4090", "--emit", "llama.cpp")
    refused = command(*flags)
    assert refused.code == 1
    told = re.findall(r"(-n?cmoe.*) \(about ([\d.]+) tok/s, .* at the end; prompts", refused.err)
    assert [text for text, _ in told] == ["-ncmoe 60", "-cmoe"]
    (planned,) = re.findall(r"as planned about ([\d.]+) tok/s", refused.err)
    rates = [float(planned), *(float(rate) for _, rate in told)]
    assert rates == sorted(rates, reverse=True)
    for text, _ in told:
        assert command(*flags, *text.split()).out.endswith(" --numa distribute\n")
    alone = command(*flags, "-cmoe", "--numa", "local").out
    assert "llama-server" in alone
    assert "--numa" not in alone
    path = tmp_path / "plan.json"
    command(*flags[:4], "--save", str(path))
    assert "try   -cmoe, or -ncmoe 60" in command(*flags, "--plan", str(path)).err
