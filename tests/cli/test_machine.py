"""`plan --machine`: plans for machines that are not here, and nothing but plans."""

import json
from pathlib import Path

import pytest

PRESET = ("--machine", "2xepyc-4090")


def test_a_preset_takes_the_place_of_this_machine(command):
    shown = json.loads(command("plan", "demo", "--json", *PRESET).out)
    assert [use["name"] for use in shown["devices"]] == ["CPU", "CUDA0"]
    assert shown["devices"][0]["budget_bytes"] == 764 << 30
    assert shown["kernels"]["threads"] == shown["workload"]["threads"] == 128
    assert set(shown["numa"]["node_bytes"]) == {"node0", "node1"}


def test_threads_and_tier_are_those_of_the_described_machine(command):
    line = ("plan", "demo", "--json", *PRESET)
    shown = json.loads(command(*line, "-t", "200", "--tier", "amx").out)
    assert shown["kernels"] == {"mode": "fast", "tier": "amx", "threads": 200}
    cut = json.loads(command(*line, "-t", "999").out)
    assert cut["kernels"]["threads"] == 256


def test_devices_budgets_and_rules_work_on_a_described_machine(command):
    line = ("plan", "demo", "--json", "--machine", "8xh200", "--device", "CUDA1,CUDA7")
    shown = json.loads(command(*line, "--vram", "CUDA7=1GiB", "-ot", "exps=CUDA7").out)
    assert [use["name"] for use in shown["devices"]] == ["CPU", "CUDA1", "CUDA7"]
    assert shown["devices"][2]["budget_bytes"] == 1 << 30
    refused = command("plan", "demo", "--machine", "8xh200", "-ot", "exps=CUDA8")
    assert refused.code == 2
    assert "CUDA7" in refused.err


def test_a_file_is_a_machine_too(command, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    rig.write_text('[host]\nram = "8GiB"\n[[gpu]]\nmemory = "1GiB"\ncount = 3\n')
    shown = json.loads(command("plan", "demo", "--json", "--machine", str(rig)).out)
    assert [use["name"] for use in shown["devices"]] == ["CPU", "CUDA0", "CUDA1", "CUDA2"]
    rig.write_text('[host]\nram = "8GiB"\n[[gpu]]\nmemroy = "1GiB"\n')
    refused = command("plan", "demo", "--machine", str(rig))
    assert (refused.code, refused.out) == (2, "")
    assert "rig.toml: gpu 1: memory is missing" in refused.err


def test_a_gpu_that_is_too_old_is_left_out_of_a_described_machine(command, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    rig.write_text(
        '[host]\nram = "8GiB"\n[[gpu]]\nname = "V100"\nmemory = "16GiB"\ncompute_capability = "7.0"'
    )
    outcome = command("plan", "demo", "--json", "--machine", str(rig))
    assert [use["name"] for use in json.loads(outcome.out)["devices"]] == ["CPU"]
    assert "CUDA0 (V100) is left out" in outcome.err


def test_an_unknown_preset_is_an_error_that_lists_them(command):
    refused = command("plan", "demo", "--machine", "8xh20")
    assert (refused.code, refused.out) == (2, "")
    assert "did you mean 8xh200?" in refused.err
    assert "laptop-cpu" in refused.err


def test_the_presets_are_listed_without_a_model(command):
    outcome = command("plan", "--list-machines")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].startswith("16x3090 ")
    assert len(outcome.out.splitlines()) >= 9


@pytest.mark.parametrize(
    "line",
    [
        ("run", "demo", "-p", "hi"),
        ("bench", "demo"),
        ("chat", "demo"),
        ("perplexity", "demo", "-f", __file__),
    ],
)
def test_a_machine_that_is_not_here_cannot_run(command, line):
    refused = command(*line, *PRESET)
    assert (refused.code, refused.out) == (2, "")
    assert "only plans are made for it" in refused.err
    assert "hybrid plan MODEL --machine 2xepyc-4090" in refused.err
    assert "context" not in refused.err  # nothing was planned or loaded before


def test_a_machine_and_simulated_gpus_are_two_descriptions(command):
    refused = command("plan", "demo", *PRESET, "--simulate", "CUDA0=1GiB")
    assert refused.code == 2
    assert "--simulate both describe the GPUs" in refused.err


def test_a_plan_for_a_machine_that_is_not_here_says_which(command, tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    assert command("plan", "demo", "--machine", "1x3090-desktop", "--save", path).code == 0
    here = command("plan", "demo", "--plan", path, "--device", "none")
    assert here.code == 1
    assert "--machine 1x3090-desktop" in here.err
    assert here.err.count("--simulate") == 1
    assert command("plan", "demo", "--plan", path, "--machine", "1x3090-desktop").code == 0


def test_an_empty_machine_lists_the_presets(command) -> None:
    found = command("plan", "demo", "--machine", "")
    assert found.code != 0
    assert "names no machine" in found.err
    assert "1x3090-desktop" in found.err


@pytest.mark.parametrize("numa", ["shard", "off"])
def test_the_policy_that_was_predicted_is_told(command, numa: str) -> None:
    line = ("plan", "demo", *PRESET, "--device", "none", "--numa", numa)
    assert f"2 NUMA nodes, --numa {numa}: " in command(*line).out
    shown = json.loads(command(*line, "--json").out)
    assert shown["workload"]["numa"] == shown["numa"]["policy"] == numa


def test_shards_that_cannot_be_cut_are_predicted_as_what_they_become(command) -> None:
    line = ("plan", "demo", *PRESET, "--device", "none", "--mmap", "--json", "--numa")
    shard, interleave = (json.loads(command(*line, numa).out) for numa in ("shard", "interleave"))
    assert shard["workload"] == interleave["workload"]
    assert shard["prediction"] == interleave["prediction"]
