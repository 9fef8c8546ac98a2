"""Described machines are planned for and never run on, from Python too."""

import pytest

import hybrid
from hybrid.errors import UsageError
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare


def test_load_refuses_a_described_machine() -> None:
    with pytest.raises(UsageError, match="only plans are made for it") as raised:
        hybrid.load("demo", machine="16x3090")
    assert "machine for --machine" in str(raised.value)


def test_prepare_plans_for_a_described_machine_without_looking_at_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(*_: object, **__: object) -> None:
        raise AssertionError("this machine is not asked")

    monkeypatch.setattr("hybrid.runtime.machines.probe_machine", look)
    monkeypatch.setattr("hybrid.runtime.prepare.choose_cpus", look)
    prepared = prepare("demo", LoadOptions(machine="8xh200"))
    assert len(prepared.machine.gpus) == 8
    assert prepared.machine.speeds is not None
    assert prepared.machine.speeds.source == "preset 8xh200, partly estimated"
    assert len(prepared.cpus.cpus) == prepared.plan.workload.threads == 112
    assert prepared.layout.nodes == (0, 1)


@pytest.mark.parametrize("machine", [5, ["rig.toml"], {}])
def test_a_machine_is_named_by_a_text_or_a_path(machine: object) -> None:
    with pytest.raises(UsageError, match="machine is"):
        LoadOptions(machine=machine)


def test_a_machine_and_simulated_gpus_are_two_descriptions() -> None:
    with pytest.raises(UsageError, match="both describe the GPUs"):
        LoadOptions(machine="8xh200", simulate={"CUDA0": 1 << 30})
