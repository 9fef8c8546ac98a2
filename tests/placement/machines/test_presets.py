"""The presets: each reads, has its sources, and takes a plan."""

from math import isfinite

import pytest

from placement.errors import RequestError
from placement.machines.choice import (
    PRESETS,
    described_machine,
    preset_abouts,
    preset_names,
)
from placement.machines.estimates import speeds_of
from placement.machines.file import machine_text, read_machine
from placement.machines.toml_table import read_toml
from placement.planner import plan
from placement.rules import cpu_moe_rule
from placement.workload import Workload
from tests.placement.models import deepseek_v3

GPUS = {
    "16x3090": 16,
    "1x3090-desktop": 1,
    "1x4090-192g": 1,
    "1xh200": 1,
    "2x3090-256g": 2,
    "2xepyc-4090": 1,
    "2xxeon-amx-5090": 1,
    "8xh200": 8,
    "laptop-cpu": 0,
}


def test_these_presets_are_there() -> None:
    assert {name: len(described_machine(name).gpus) for name in preset_names()} == GPUS
    assert all(preset_abouts().values())


@pytest.mark.parametrize("name", GPUS)
def test_a_preset_has_sources_and_speeds_of_every_device(name: str) -> None:
    sources = read_toml(PRESETS / f"{name}.toml", "a preset").texts("sources")
    assert len(sources) >= 1
    machine = described_machine(name)
    speeds = speeds_of(machine)
    assert speeds.source.startswith(f"preset {name}")
    assert set(speeds.gpus) == {gpu.name for gpu in machine.gpus}
    assert isfinite(speeds.host.read_gb_s)
    assert sum(node.total_bytes for node in machine.numa_nodes) == machine.host.total_bytes
    cpus = [cpu for node in machine.numa_nodes for cpu in node.cpus]
    assert sorted(cpus) == list(range(machine.usable_cpus))


@pytest.mark.parametrize("name", GPUS)
def test_a_preset_written_again_is_the_same_machine(name: str, tmp_path) -> None:
    machine = described_machine(name)
    path = tmp_path / "again.toml"
    path.write_text(machine_text(machine, "again"), encoding="utf-8")
    again = read_machine(path)
    assert (again.devices, again.links, again.numa_nodes) == (
        machine.devices,
        machine.links,
        machine.numa_nodes,
    )
    assert again.speeds is not None
    assert machine.speeds is not None
    assert again.speeds.source == machine.speeds.source


def test_a_large_model_is_planned_on_a_preset() -> None:
    made = plan(
        deepseek_v3(), described_machine("16x3090"), (cpu_moe_rule(),), Workload(8192), budgets=None
    )
    assert {use.name for use in made.devices} == {"CPU", *(f"CUDA{i}" for i in range(16))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("16x309", ("no machine '16x309'", "did you mean 16x3090?", "laptop-cpu")),
        ("DESKTOP-3090", ("no machine 'DESKTOP-3090'", "presets: 16x3090")),
        ("missing.toml", ("missing.toml cannot be read", "No such file")),
        ("./16x3090", ("cannot be read",)),
    ],
)
def test_an_unknown_name_lists_the_presets(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as raised:
        described_machine(text)
    assert [word for word in words if word not in str(raised.value)] == []
