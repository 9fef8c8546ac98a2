"""`hybrid doctor`: measures a state of the machine once, keeps it, writes machine files."""

import json
import re
from pathlib import Path

import pytest

import hybrid.runtime.measuring.machine as measuring
from hybrid.runtime.measuring.readings import Readings
from kernels.errors import NativeLibraryMissing
from placement.machines.file import read_machine
from placement.machines.machine import CPU
from placement.machines.profile import COMMAND

HOST = {
    "read_gb_s": 44.0,
    "product_share": 0.875,
    "matmul_tflops": 0.5,
    "job_us": 9.0,
    "token_us": 120.0,
    "by_threads": ((1, 30.0), (2, 44.0)),
}
PROFILES = "cache/hybrid"  # below tmp_path, as the fixture `command` sets it


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measuring is played; one entry for each time."""
    times: list[str] = []

    def measure(machine, cpus, say):
        times.append(machine.host.description)
        say("CPU: RAM reads")
        return Readings(say, {CPU: dict(HOST)})

    monkeypatch.setattr(measuring, "measure_machine", measure)
    return times


def test_the_first_doctor_measures_and_the_next_one_remembers(command, measured, tmp_path):
    first = command("doctor")
    assert len(measured) == 1
    assert "measuring CPU: RAM reads" in first.err
    (kept,) = (tmp_path / PROFILES).iterdir()
    assert f"kept in {kept}" in first.out
    again = command("doctor")
    assert len(measured) == 1
    assert "measuring" not in again.err
    rows = [line.split() for line in again.out.splitlines()]
    assert ["CPU", "RAM", "read", "by", "all", "threads", "44.0", "GB/s", "measured"] in rows
    assert ["CPU", "RAM", "read,", "1", "thread", "30.0", "GB/s", "measured"] in rows
    assert command("doctor", "--measure").code == 0
    assert len(measured) == 2


def test_no_measure_tells_estimates(command, measured, tmp_path):
    facts = json.loads(command("doctor", "--json", "--no-measure").out)
    assert measured == []
    assert facts["speeds"]["source"] == "estimated"
    assert (facts["speeds"]["measured"], facts["speeds"]["profile"]) == ({}, None)
    assert not (tmp_path / PROFILES).exists()


def test_json_has_the_figures_and_which_of_them_were_measured(command, measured):
    speeds = json.loads(command("doctor", "--json").out)["speeds"]
    assert speeds["host"]["read_gb_s"] == 44.0
    assert set(speeds["measured"]["CPU"]) == set(HOST)
    assert speeds["source"].startswith("measured 20")


def test_figures_that_failed_are_one_note_each_and_stay_estimated(command, monkeypatch):
    def measure(machine, cpus, say):
        readings = Readings(say)
        readings.figure(CPU, "read_gb_s", "RAM reads", lambda: 44.0)
        readings.figure(CPU, "job_us", "a job's own time", lambda: 7.0)
        readings.attempt(CPU, "products", lambda: (_ for _ in ()).throw(RuntimeError("bang\nx")))
        return readings

    monkeypatch.setattr(measuring, "measure_machine", measure)
    outcome = command("doctor", "--json")
    assert "note: CPU: products could not be measured: bang\n" in outcome.err
    speeds = json.loads(outcome.out)["speeds"]
    assert speeds["measured"]["CPU"] == ["read_gb_s", "job_us"]
    assert speeds["error"] > 0.15


def test_without_the_compiled_library_doctor_tells_facts(command, monkeypatch):
    def measure(*_):
        raise NativeLibraryMissing("no library; build it")

    monkeypatch.setattr(measuring, "measure_machine", measure)
    outcome = command("doctor")
    assert outcome.code == 0
    assert "speeds are estimated, nothing can be measured: no library" in outcome.err
    assert "speeds: estimated" in outcome.out


def test_a_cache_that_refuses_is_a_note(command, measured, tmp_path):
    (tmp_path / "cache").write_text("a file")
    outcome = command("doctor")
    assert outcome.code == 0
    assert "the figures cannot be kept" in outcome.err
    assert "44.0" in outcome.out


def test_a_broken_profile_is_measured_anew(command, measured, tmp_path):
    command("doctor")
    (kept,) = (tmp_path / PROFILES).iterdir()
    kept.write_text("broken")
    assert command("plan", "demo").err.count(COMMAND) == 1
    command("doctor")
    assert len(measured) == 2
    assert COMMAND not in command("plan", "demo").err


def test_a_plan_says_that_the_profile_is_of_another_state(command, measured, tmp_path):
    command("doctor")
    (kept,) = (tmp_path / PROFILES).iterdir()
    other = kept.with_name("machine-0123456789abcdef.toml")
    kept.rename(other)
    other.write_text(other.read_text().replace("\ncores = ", '\ncores = "1 of 9 CPUs" # '))
    told = command("plan", "demo").err
    assert "of another state (cores was 1 of 9 CPUs)" in told
    assert COMMAND in told


def test_a_saved_machine_is_planned_for_elsewhere(command, measured, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    assert command("doctor", "--save", str(rig)).code == 0
    machine = read_machine(rig)
    assert machine.speeds is not None
    assert machine.speeds.host.read_gb_s == 44.0
    assert machine.speeds.source.startswith("measured 20")
    assert command("plan", "demo", "--machine", str(rig)).code == 0
    refused = command("doctor", "--save", str(tmp_path / "no" / "rig.toml"))
    assert refused.code == 1
    assert "--save" in refused.err


def test_a_file_that_save_replaces_is_kept_beside_it(command, measured, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    line = ("doctor", "--simulate", "CUDA0=64MiB", "--no-measure", "--save", str(rig))
    first = command(*line, "--json")
    assert f"{rig} is written\n" in first.err
    json.loads(first.out)
    for number, own in enumerate(["# my own figures\n", "# others\n", "# others\n"]):
        rig.write_text(own)
        kept = tmp_path / ("rig.toml~" if number == 0 else "rig.toml~2")
        assert f"{rig} is written; what it held before is now in {kept}\n" in command(*line).err
        assert kept.read_text() == own
        assert len(read_machine(rig).gpus) == 1
    assert sorted(path.name for path in tmp_path.glob("rig*")) == [
        *("rig.toml", "rig.toml~", "rig.toml~2")
    ]


def test_a_file_that_save_leaves_alike_needs_no_copy(command, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("hybrid.cli.doctor.machine_text", lambda *_: "# alike\n")
    rig = tmp_path / "rig.toml"
    rig.write_text("# alike\n")
    said = command("doctor", "--no-measure", "--save", str(rig)).err
    assert f"{rig} is written\n" in said
    assert not (tmp_path / "rig.toml~").exists()


def test_free_memory_of_another_moment_needs_no_copy(command, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    line = ("doctor", "--simulate", "CUDA0=64MiB", "--no-measure", "--save", str(rig))
    command(*line)
    before = rig.read_text()
    rig.write_text(re.sub(r'free_ram = ".*"', 'free_ram = "1GiB"', before))
    assert f"{rig} is written\n" in command(*line).err
    rig.write_text(before.replace("cores = ", "cores = 1"))
    assert f"{rig} is written; what it held" in command(*line).err


def test_a_file_that_cannot_be_a_machine_is_not_replaced(command, tmp_path: Path):
    model = tmp_path / "model.gguf"
    model.write_bytes(bytes(2 << 20))
    outcome = command("doctor", "--no-measure", "--save", str(model))
    assert outcome.code == 1
    assert "2097152 bytes and is something else" in outcome.err
    assert model.stat().st_size == 2 << 20
    assert list(tmp_path.iterdir()) == [model]


def test_simulated_gpus_are_never_measured(command, measured, tmp_path: Path):
    rig = tmp_path / "rig.toml"
    line = ("doctor", "--json", "--simulate", "CUDA0=64MiB", "--measure", "--save", str(rig))
    facts = json.loads(command(*line).out)
    assert measured == []
    assert list(facts["speeds"]["gpus"]) == ["CUDA0"]
    assert read_machine(rig).gpus[0].total_bytes == 64 << 20


def test_measure_and_no_measure_exclude_each_other(command):
    assert command("doctor", "--measure", "--no-measure").code == 2
