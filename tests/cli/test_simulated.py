"""What is said of GPUs that the CPU plays: that it plays them, and no speed as if of a GPU."""

import json

import pytest

from hybrid.cli.loading import short_plan
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare

PLAYED = ("--simulate", "CUDA0=80MiB")
RIG = ("--machine", "2xepyc-4090")


def test_the_report_marks_gpus_that_are_played_and_predicts_nothing_of_them(command):
    report = command("plan", "demo", *PLAYED).out
    assert "\nCUDA0 (simulated) " in report
    assert "speed     not predicted: CUDA0 is played by this CPU" in report
    assert "tok/s" not in report


def test_remedies_on_played_gpus_tell_bytes_and_no_speed(command):
    failed = command("plan", "demo", "--simulate", "CUDA0=10MiB", "-ot", ".*=CUDA0")
    assert failed.code == 1
    without, larger = failed.err.splitlines()[-2:]
    assert larger.endswith("--simulate CUDA0=37MiB (CUDA0 then needs 36.4 MiB of 37.0 MiB)")
    assert "CUDA0 then needs 0 B" in without  # the CPU's own speed is known
    assert "tok/s" in without


def test_notes_on_played_gpus_tell_no_speed(command):
    report = command("plan", "demo", "--simulate", "CUDA0=800MiB", "-ot", "exps=CPU", "-c", "8192")
    notes = " ".join(report.out.split())
    assert "on they are brought to the GPUs" in notes
    assert "tok/s" not in notes


def test_gpus_of_a_described_machine_are_predicted_and_not_marked(command):
    report = command("plan", "demo", *RIG).out
    assert "simulated" not in report
    assert "decode tok/s" in report


@pytest.mark.parametrize(("flags", "is_played"), [(PLAYED, True), (RIG, False)])
def test_the_json_says_which_devices_are_played(command, flags, is_played):
    plan = json.loads(command("plan", "demo", *flags, "--json").out)
    assert [use["simulated"] for use in plan["devices"]] == [False, is_played]
    assert (plan["prediction"] is None) == is_played


def test_a_gpu_that_holds_nothing_leaves_the_cpu_its_prediction(command):
    report = command("plan", "demo", *PLAYED, "-ngl", "0").out
    assert "CUDA0 (simulated)" in report
    assert "decode tok/s" in report


def test_a_plan_s_marks_are_those_of_the_machine_that_obeys_it(command, tmp_path):
    path = tmp_path / "plan.json"
    command("plan", "demo", *PLAYED, "--save", str(path))
    saved = json.loads(path.read_text())
    for use in saved["devices"]:
        del use["simulated"]  # as versions before this one wrote them
    path.write_text(json.dumps(saved))
    assert "CUDA0 (simulated)" in command("plan", "demo", *PLAYED, "--plan", str(path)).out


def test_other_views_predict_nothing_of_played_gpus_either(command, tmp_path):
    page = tmp_path / "plan.html"
    command("plan", "demo", *PLAYED, "--html", str(page))
    assert "CUDA0 (simulated)" in page.read_text()
    assert "tok/s" not in page.read_text()
    asked = command("plan", "demo", *PLAYED, "--what-if", "ctx=256,512")
    assert "tok/s" not in asked.out
    assert "not predicted: CUDA0 is played by this CPU" in asked.err
    assert "tok/s" not in command("plan", "demo", *PLAYED, "--explain", "exps").out


def test_the_lines_before_a_run_mark_played_gpus():
    plan = prepare("demo", LoadOptions(simulate={"CUDA0": 80 << 20})).plan
    lines = short_plan(plan).splitlines()
    assert [line.split("  weights")[0] for line in lines[1:]] == [
        "  CPU              ",
        "  CUDA0 (simulated)",
    ]


def test_a_bench_of_played_gpus_has_no_prediction(command):
    line = ("bench", "demo", "-p", "4", "-n", "2", "-r", "1", *PLAYED)
    table = command(*line).out
    assert "tg2" in table
    assert "predict" not in table.splitlines()[0] + table.splitlines()[2]
    alone = command("bench", "demo", "-p", "4", "-n", "2", "-r", "1", "--device", "none").out
    assert "predictions: speeds " in alone
