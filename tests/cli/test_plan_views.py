"""What `hybrid plan` shows beside the report: --explain, --what-if, --diff, --html, bars."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from hybrid.runtime.variations import varied_plan, with_gpus
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from placement.plan_json import from_json
from placement.report.bars import BLOCKS
from tests.placement.golden_reports import rig
from tests.placement.models import GIB
from tools.make_header import make_header

ROOT = Path(__file__).resolve().parents[2]
TWO_GPUS = ("--simulate", "CUDA0=96MiB,CUDA1=96MiB", "-c", "64")
PLAN = ("plan", "demo", *TWO_GPUS)


def test_the_report_draws_a_bar_for_each_device(command):
    text = command(*PLAN).out
    bars = text.split("\n\nmemory    ")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in bars[:3]] == ["CPU", "CUDA0", "CUDA1"]
    assert BLOCKS["compute"] in bars[1]
    assert "░ cache" in bars[3]


def test_bars_are_letters_where_the_output_takes_no_blocks():
    done = subprocess.run(
        [sys.executable, "-m", "hybrid", *PLAN],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    text = done.stdout.decode("ascii")
    assert "CCC" in text
    assert "K cache" in text
    assert "\\u" not in text


def test_explain_tells_reason_rules_and_the_cost_of_elsewhere(command):
    outcome = command(*PLAN, "-ot", "up_exps=CUDA1,exps=CPU", "--explain", "_exps")
    assert outcome.code == 0, outcome.err
    assert "because    rule 1: up_exps=CUDA1\ntoo late   rule 2: exps=CPU" in outcome.out
    assert "elsewhere  CPU: fits" in outcome.out
    assert "workload" not in outcome.out
    facts = json.loads(command(*PLAN, "--explain", r"blk\.[1-4]\..*_exps", "--json").out)
    (one,) = facts["explain"]
    assert one["device"] == "CPU"
    assert {place["device"] for place in one["elsewhere"]} == {"CUDA0", "CUDA1"}


def test_what_if_gives_a_row_for_every_combination(command):
    line = (*PLAN, "--what-if", "ctx=64,512", "gpus=0,1,3", "ctk=q8_0")
    outcome = command(*line)
    assert outcome.code == 0, outcome.err
    rows = outcome.out.splitlines()
    assert len(rows) == 7
    assert rows[0].split()[:3] == ["ctx", "gpus", "ctk"]
    assert "2 of 3 GPUs are here; the others are taken to be like CUDA1" in outcome.err
    facts = json.loads(command(*line, "--json").out)["what_if"]
    assert [row["settings"]["gpus"] for row in facts] == [0, 1, 3] * 2
    assert [len(row["devices"]) for row in facts] == [1, 2, 4] * 2


def test_a_row_with_the_settings_of_the_plan_is_the_plan(command):
    line = (*PLAN, "--ram", "1GiB", "--json")
    facts = json.loads(command(*line, "--what-if", "ctx=64", "gpus=2").out)["what_if"]
    assert facts[0]["devices"] == json.loads(command(*line).out)["devices"]


def test_what_does_not_fit_is_a_row_that_says_by_how_much(command):
    line = ("plan", "demo", "--simulate", "CUDA0=40MiB", "-c", "64", "-ub", "64", "-ngl", "99")
    assert command(*line).code == 0
    text = command(*line, "--what-if", "ub=64,1024", "ctx=1024").out
    yes, no = text.splitlines()[1:]
    assert yes.endswith("yes")
    assert no.endswith("iB short")


def test_rules_for_a_gpu_that_a_row_lacks_leave_that_row_without_a_plan(command):
    text = command(*PLAN, "-ot", "exps=CUDA1", "--what-if", "gpus=1,2").out
    assert "no plan: rule 1" in text.splitlines()[1]
    assert text.splitlines()[2].endswith("yes")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--what-if", "ctxt=1"), "did you mean ctx?"),
        (("--what-if", "ctk=q8"), "did you mean q8_0?"),
        (("--explain", "("), "--explain"),
        (("--explain", "up", "--what-if", "ctx=64"), "not allowed with"),
        (("--explain", "nothing_like_it"), "no tensor's name holds it"),
        (("--explain", r"blk\.9\."), r"--explain 'blk\.9\.': no tensor's name holds it"),
        (("--what-if", "gpus=1", "--device", "none"), "usage"),
    ],
)
def test_views_that_cannot_be_meant_are_usage_errors(flags, said, command):
    outcome = command(*PLAN, *flags)
    if said == "usage":
        assert outcome.code == 0
        assert "no plan: gpus: this machine has no GPU" in outcome.out
    else:
        assert outcome.code == 2
        assert said in outcome.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--what-if", "ctx=64", "--html", "page.html"), "--what-if and --html"),
        (("--explain", "up", "--html", "page.html"), "--explain and --html"),
        (("--emit", "ik", "--json"), "--emit and --json"),
        (("--explain", "up", "--emit", "ik"), "--explain and --emit"),
        (("--diff", "a.json", "b.json", "--save", "c.json"), "--diff and --save"),
        (("--emit", "ik", "--tensors"), "--emit and --tensors"),
    ],
)
def test_of_two_views_none_is_dropped_unsaid(flags, said, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = command(*PLAN, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{said} cannot be shown by one call" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_model_behind_what_if_is_told_where_it_went(command):
    outcome = command("plan", "--what-if", "ctx=8k,16k", "demo")
    assert outcome.code == 2
    assert "no model is given: 'demo' was read as part of --what-if" in outcome.err
    [remedy] = [line for line in outcome.err.splitlines() if line.startswith("  try")]
    words = remedy.partition(": hybrid ")[2].split()
    assert words == ["plan", "demo", "--what-if", "ctx=8k,16k"]
    assert command(*words).code == 0


def test_what_if_and_a_plan_file_do_not_go_together(command, tmp_path):
    path = str(tmp_path / "plan.json")
    command(*PLAN, "--save", path)
    outcome = command("plan", "demo", *TWO_GPUS[:2], "--plan", path, "--what-if", "ctx=64")
    assert outcome.code == 2
    assert "--plan gives one" in outcome.err


def test_diff_compares_two_saved_plans(command, tmp_path):
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    command(*PLAN, "--save", first)
    command(*PLAN[:-1], "128", "-ot", "exps=CUDA1", "--save", second)
    text = command("plan", "--diff", first, second).out
    assert "context tokens  64      128" in text
    moved = text.split("\n\n")[1]
    assert "CPU     CUDA1  blk.1-4.ffn_{" in moved
    facts = json.loads(command("plan", "--diff", first, second, "--json").out)["diff"]
    assert facts["moves"][0]["before"] == "CPU"
    assert "alike" in command("plan", "--diff", first, first).out
    assert command("plan", "--diff", first, str(tmp_path / "none.json")).code == 1


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_diff_notes_that_the_plans_are_of_two_models(form, command, tmp_path):
    ours, other = tmp_path / "ours.json", tmp_path / "other.json"
    command(*PLAN, "--save", str(ours))
    facts = json.loads(ours.read_text())
    facts["model"]["name"] = "another"
    other.write_text(json.dumps(facts))
    told = command("plan", "--diff", str(ours), str(other), *form).err
    assert told.startswith("note: the plans are of different models, ")
    assert command("plan", "--diff", str(ours), str(ours), *form).err == ""


@pytest.mark.parametrize("given", [("good", "bad"), ("bad", "good")])
@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "not a plan: the field version is missing"), ('{"version": 99}', "of version 99")],
)
def test_of_two_plans_the_one_that_is_none_is_named(given, text, said, command, tmp_path):
    paths = [str(tmp_path / f"{name}.json") for name in given]
    command(*PLAN, "--save", str(tmp_path / "good.json"))
    (tmp_path / "bad.json").write_text(text)
    outcome = command("plan", "--diff", *paths)
    assert outcome.code == 1
    [told] = [line for line in outcome.err.splitlines() if said in line]
    assert "bad.json: " in told
    assert "good.json" not in outcome.err


def test_html_writes_one_page_beside_the_report(command, tmp_path):
    path = tmp_path / "page.html"
    outcome = command(*PLAN, "--html", str(path))
    assert "layers" in outcome.out
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "blk.4.ffn_up_exps.weight" in text
    assert "<h2>NUMA</h2>" in text
    assert "<h2>Kernels</h2>\n<p>fast, " in text
    refused = command(*PLAN, "--html", str(tmp_path / "none" / "page.html"))
    assert refused.code == 1
    assert "--html" in refused.err


def test_views_and_saving_go_together(command, tmp_path):
    path = tmp_path / "plan.json"
    outcome = command(*PLAN, "--explain", "^output", "--save", str(path))
    assert outcome.out.startswith("tensor")
    assert from_json(json.loads(path.read_text())).workload.context_tokens == 64


def test_a_large_models_what_if_is_quick_where_nothing_fits(command, tmp_path):
    header = str(make_header(tmp_path / "r1.gguf", "deepseek-r1"))
    line = ("plan", header, "--simulate", "CUDA0=24GiB", "--ram", "512GiB", "-ot", "exps=CPU")
    text = command(*line, "--what-if", "ctx=4k,8k,16k,32k", "ngl=62,100").out
    assert len(text.splitlines()) == 9


def test_imagined_gpus_have_links_and_speeds_of_the_last_one():
    where = rig(GIB, 2 * GIB, ram=8 * GIB)
    speeds = MachineSpeeds(
        HostSpeeds(100, 0.9, 1, 10, 100),
        {f"CUDA{i}": GpuSpeeds(*range(i, i + 12)) for i in range(2)},
        "a test",
        0.1,
    )
    more = with_gpus(replace(where, speeds=speeds), 4)
    assert more.device_names == ("CPU", "CUDA0", "CUDA1", "CUDA2", "CUDA3")
    assert [gpu.total_bytes for gpu in more.gpus] == [GIB, 2 * GIB, 2 * GIB, 2 * GIB]
    assert [link.device for link in more.links] == ["CUDA0", "CUDA1", "CUDA2", "CUDA3"]
    assert more.speeds is not None
    assert more.speeds.gpus["CUDA3"] == more.speeds.gpus["CUDA1"]
    assert with_gpus(where, 1).device_names == ("CPU", "CUDA0")


def test_mapped_weights_need_no_ram_in_a_what_if(tmp_path):
    header = make_header(tmp_path / "kimi.gguf", "kimi-k2", "F32")
    options = LoadOptions(context=64, ubatch=8, mmap=True, devices=("none",))
    prepared = prepare(header, options)
    again = varied_plan(prepared, options, {"ctx": 64})
    assert [use.budget_bytes > use.total_bytes for use in again.devices] == [True]
