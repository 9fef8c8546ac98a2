"""Profiles: kept for one state of a machine, told about when the state is another one."""

import os
import stat
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from placement.machines.calibration import KINDS, Calibration
from placement.machines.estimates import speeds_of
from placement.machines.machine import CPU, Device, DeviceKind, Link, Machine
from placement.machines.profile import (
    COMMAND,
    find_profile,
    fingerprint,
    profile_folder,
    profile_path,
    profile_text,
    remember,
    store_profile,
    with_profile,
)

GIB = 1 << 30
FIGURES = {
    CPU: {"read_gb_s": 77.5, "by_threads": ((1, 16.0), (8, 77.5))},
    "CUDA0": {"copy_gb_s": 850.5, "to_gpu_gb_s": 24.5},
}


def a_machine(**gpu: object) -> Machine:
    host = Device(CPU, DeviceKind.CPU, 64 * GIB, 60 * GIB, "Zen")
    card = Device(
        "CUDA0", DeviceKind.GPU, 24 * GIB, 23 * GIB, "RTX 3090", driver="580.1", uuid="GPU-1"
    )
    links = (Link("CUDA0", 1, 16, 4, 16),)
    return Machine((host, replace(card, **gpu)), links, (), 8, 16)


def stored(machine: Machine, folder: Path) -> Path:
    return store_profile(machine, profile_text(machine, FIGURES, "2026-11-21", 0.15), folder)


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    machine = a_machine()
    path = stored(machine, tmp_path / "hybrid")
    found = find_profile(machine, tmp_path / "hybrid")
    assert (found.path, found.notes) == (path, ())
    assert found.figures == FIGURES
    assert found.speeds is not None
    assert (found.speeds.source, found.speeds.error) == ("measured 2026-11-21", 0.15)
    assert found.speeds.host.by_threads == ((1, 16.0), (8, 77.5))
    estimate = speeds_of(machine)
    assert found.speeds.gpus["CUDA0"].crossing_us == estimate.gpus["CUDA0"].crossing_us
    measured, notes = with_profile(machine, tmp_path / "hybrid")
    assert measured.speeds == found.speeds
    assert notes == ()


def test_gpus_that_were_not_measured_are_left_to_estimates(tmp_path: Path) -> None:
    machine = a_machine()
    store_profile(machine, profile_text(machine, {CPU: FIGURES[CPU]}, "2026-11-21", 0.4), tmp_path)
    found = find_profile(machine, tmp_path)
    assert found.speeds is not None
    assert found.speeds.gpus == {}
    assert speeds_of(replace(machine, speeds=found.speeds)).source.endswith("estimated for CUDA0")


def test_nothing_measured_is_nothing_to_tell(tmp_path: Path) -> None:
    machine = a_machine()
    assert with_profile(machine, tmp_path / "nowhere") == (machine, ())
    assert with_profile(machine, None) == (machine, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"driver": "590.2"}, "CUDA0 was RTX 3090, GPU-1, driver 580.1"),
        ({"uuid": "GPU-2"}, "CUDA0 was RTX 3090, GPU-1"),
        ({"description": "RTX 4090"}, "CUDA0 was RTX 3090"),
    ],
)
def test_another_gpu_or_driver_asks_for_measuring_anew(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    stored(a_machine(), tmp_path)
    found = find_profile(a_machine(**change), tmp_path)
    assert (found.speeds, found.path) == (None, None)
    assert words in found.notes[0]
    assert COMMAND in found.notes[0]


def test_what_changes_by_itself_keeps_the_fingerprint() -> None:
    machine = a_machine()
    idle = replace(machine, links=(Link("CUDA0", 4, 16, 4, 16),))  # generations follow the load
    fuller = a_machine(free_bytes=1 * GIB)
    assert fingerprint(idle) == fingerprint(fuller) == fingerprint(machine)
    slot = replace(machine, links=(Link("CUDA0", 4, 8, 4, 16),))
    fewer = replace(machine, physical_cores=4)
    more = replace(machine, devices=(replace(machine.host, total_bytes=128 * GIB), *machine.gpus))
    without = replace(machine, devices=machine.devices[:1])
    prints = {fingerprint(one) for one in (machine, slot, fewer, more, without)}
    assert len(prints) == 5


def test_simulated_gpus_use_the_profile_of_the_machine_without_gpus(tmp_path: Path) -> None:
    machine = a_machine()
    bare = replace(machine, devices=machine.devices[:1], links=())
    store_profile(bare, profile_text(bare, {CPU: FIGURES[CPU]}, "2026-11-21", 0.15), tmp_path)
    played = Device("CUDA0", DeviceKind.SIMULATED_GPU, GIB, GIB)
    found, _ = with_profile(replace(bare, devices=(bare.host, played)), tmp_path)
    assert found.speeds is not None
    assert found.speeds.host.read_gb_s == 77.5


def test_what_runs_taught_is_kept_until_the_machine_is_measured_anew(tmp_path: Path) -> None:
    machine = a_machine()
    assert remember(machine, {"decode_gpu": 0.9}, tmp_path) is None  # nothing was measured
    assert remember(machine, {"decode_gpu": 0.9}, None) is None
    path = stored(machine, tmp_path)
    assert remember(machine, {}, tmp_path) is None
    assert path.read_text() == profile_text(machine, FIGURES, "2026-11-21", 0.15)
    for ratio in (0.9, 1.123456):
        assert remember(machine, {"decode_gpu": ratio}, tmp_path) == path
    found = find_profile(machine, tmp_path)
    assert found.speeds is not None
    assert found.speeds.calibration == Calibration({"decode_gpu": (0.9, 1.123)})
    assert found.figures == FIGURES
    stored(machine, tmp_path)
    again = find_profile(machine, tmp_path).speeds
    assert again is not None
    assert again.calibration == Calibration()


def _teach(kind: str, folder: Path, together: Barrier) -> None:
    together.wait()
    remember(a_machine(), {kind: 0.9}, folder)


def test_runs_that_end_together_all_teach(tmp_path: Path) -> None:
    machine = a_machine()
    stored(machine, tmp_path)
    context = get_context("fork")
    together = context.Barrier(len(KINDS))
    runs = [context.Process(target=_teach, args=(kind, tmp_path, together)) for kind in KINDS]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    found = find_profile(machine, tmp_path).speeds
    assert found is not None
    assert found.calibration.ratios == dict.fromkeys(KINDS, (0.9,))


def test_gpus_that_are_hidden_leave_the_others_their_figures(tmp_path: Path) -> None:
    machine = a_machine()
    other = replace(machine.gpus[0], name="CUDA1", uuid="GPU-2")
    both = replace(
        machine,
        devices=(*machine.devices, other),
        links=(*machine.links, replace(machine.links[0], device="CUDA1")),
    )
    figures = {**FIGURES, "CUDA1": {"copy_gb_s": 111.0}}
    store_profile(both, profile_text(both, figures, "2026-11-21", 0.15), tmp_path)
    seen_alone = replace(
        machine, devices=(machine.host, replace(other, name="CUDA0")), links=machine.links
    )
    found, notes = with_profile(seen_alone, tmp_path)
    assert notes == ()
    assert found.speeds is not None
    assert found.speeds.gpus["CUDA0"].copy_gb_s == 111.0
    played = replace(other, name="CUDA0", kind=DeviceKind.SIMULATED_GPU)
    simulated, notes = with_profile(
        replace(machine, devices=(machine.host, played), links=()), tmp_path
    )
    assert notes == ()
    assert simulated.speeds is not None
    assert simulated.speeds.host.read_gb_s == 77.5
    third = replace(other, name="CUDA2", uuid="GPU-3")
    more = replace(both, devices=(*both.devices, third))
    assert with_profile(more, tmp_path)[0].speeds is None
    assert "CUDA2 was not there" in with_profile(more, tmp_path)[1][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no toml at all",
        'measured = "2026-11-21"\nerror = 0.15\n',
        'measured = "2026-11-21"\nerror = "small"\n',
        "\x00\x01",
    ],
)
def test_a_broken_profile_is_told_and_left_out(tmp_path: Path, text: str) -> None:
    machine = a_machine()
    profile_path(machine, tmp_path).write_text(text)
    measured, notes = with_profile(machine, tmp_path)
    assert measured == machine
    assert len(notes) == 1
    assert profile_path(machine, tmp_path).name in notes[0]
    assert COMMAND in notes[0]
    assert stored(machine, tmp_path) == profile_path(machine, tmp_path)
    assert with_profile(machine, tmp_path)[1] == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('CPU = "Zen"', 'CPU = "Other"'),
        ("read_gb_s = 77.5", "read_gb_s = -1"),
        ("read_gb_s = 77.5", "reads = 77.5"),
        ("[gpu.CUDA0]", "[gpu.CUDA9]"),
        ("[gpu.CUDA0]", "[calibration]\ndecode_gpu = [0.0]\n[gpu.CUDA0]"),
    ],
)
def test_a_profile_with_a_wrong_line_is_told_and_left_out(
    tmp_path: Path, old: str, new: str
) -> None:
    machine = a_machine()
    path = stored(machine, tmp_path)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert with_profile(machine, tmp_path)[0].speeds is None
    assert len(with_profile(machine, tmp_path)[1]) == 1


def test_a_file_where_the_folder_should_be_is_no_failure_for_a_plan(tmp_path: Path) -> None:
    (tmp_path / "hybrid").write_text("a file")
    assert with_profile(a_machine(), tmp_path / "hybrid") == (a_machine(), ())
    with pytest.raises(OSError, match="exists|directory"):
        stored(a_machine(), tmp_path / "hybrid")


def test_storing_leaves_one_whole_file(tmp_path: Path) -> None:
    path = stored(a_machine(), tmp_path)
    stored(a_machine(), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_ISREG(os.stat(path).st_mode)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert profile_folder("/var/cache") == Path("/var/cache/hybrid")
    for unset in (None, "", "relative/path"):
        assert profile_folder(unset) == Path("/home/me/.cache/hybrid")

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert profile_folder(None) is None
