import os
from pathlib import Path

import pytest

from placement.machines.cpus import ThreadCpus, choose_cpus, described_cpus
from placement.machines.machine import CPU as HOST
from placement.machines.machine import Device, DeviceKind, Machine, NumaNode
from tests.placement.folders import write

CPU = "devices/system/cpu"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two sockets of four cores of two threads: CPU n and n + 8 on core n % 4 of socket n // 4."""
    files = {f"{CPU}/online": "0-15\n"}
    for cpu in range(16):
        topology = f"{CPU}/cpu{cpu}/topology"
        files[f"{topology}/thread_siblings_list"] = f"{cpu % 8},{cpu % 8 + 8}\n"
        files[f"{topology}/core_id"] = f"{cpu % 4}\n"
        files[f"{topology}/physical_package_id"] = f"{cpu % 8 // 4}\n"
    for node, cpus in ((0, "0-3,8-11"), (2, "4-7,12-15")):
        files[f"devices/system/node/node{node}/cpulist"] = f"{cpus}\n"
    files["devices/system/node/node1/cpulist"] = "\n"
    return write(tmp_path / "sys", files)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return write(tmp_path / "proc", {"self/cgroup": "0::/job/a\n"})


@pytest.fixture(autouse=True)
def all_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    may_run_on(monkeypatch, set(range(16)))


def may_run_on(monkeypatch: pytest.MonkeyPatch, cpus: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus, raising=False)


def test_physical_cores_are_the_default_and_nodes_take_turns(sysfs: Path, proc: Path) -> None:
    chosen = choose_cpus(sysfs=sysfs, proc=proc)
    assert chosen == ThreadCpus((0, 4, 1, 5, 2, 6, 3, 7), (0, 1) * 4, (0, 2), ())


def test_fewer_threads_are_the_first_of_more(sysfs: Path, proc: Path) -> None:
    every = choose_cpus(16, sysfs=sysfs, proc=proc)
    for threads in range(1, 17):
        few = choose_cpus(threads, sysfs=sysfs, proc=proc)
        assert few.cpus == every.cpus[:threads]
        assert few.nodes == every.nodes[:threads]


def test_second_siblings_come_last_and_are_told(sysfs: Path, proc: Path) -> None:
    chosen = choose_cpus(11, sysfs=sysfs, proc=proc)
    assert chosen.cpus == (0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9)
    assert chosen.nodes == (0, 1) * 5 + (0,)
    assert chosen.notes == ("11 threads on 8 physical cores: some share one",)


def test_more_threads_than_the_affinity_mask_has_are_cut(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_run_on(monkeypatch, {5, 6, 13, 14, 15})
    assert choose_cpus(sysfs=sysfs, proc=proc).cpus == (5, 6, 15)
    chosen = choose_cpus(8, sysfs=sysfs, proc=proc)
    assert chosen.cpus == (5, 6, 15, 13, 14)
    assert chosen.nodes == (0,) * 5
    assert chosen.notes[0] == (
        "-t 8 is cut to 5: this process may run on 5 CPUs (sched_getaffinity)"
    )


def test_a_quota_of_one_and_a_half_cpus_allows_two_threads(sysfs: Path, proc: Path) -> None:
    write(sysfs, {"fs/cgroup/job/cpu.max": "150000 100000\n", "fs/cgroup/cpu.max": "max 100000\n"})
    default = choose_cpus(sysfs=sysfs, proc=proc)
    assert (default.cpus, default.nodes, default.notes) == ((0, 4), (0, 1), ())
    path = sysfs / "fs/cgroup/job/cpu.max"
    cut = f"-t 3 is cut to 2: the cgroup's quota is 1.5 CPUs ({path})"
    assert choose_cpus(3, sysfs=sysfs, proc=proc).notes == (cut,)


def test_the_smallest_quota_of_version_1_counts_too(sysfs: Path, proc: Path) -> None:
    write(proc, {"self/cgroup": "3:cpu,cpuacct:/box/inner\n"})
    for folder, quota in (("box", 300000), ("box/inner", 500000)):
        files = {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n"}
        write(sysfs / "fs/cgroup/cpu" / folder, files)
    chosen = choose_cpus(4, sysfs=sysfs, proc=proc)
    assert chosen.cpus == (0, 4, 1)
    path = sysfs / "fs/cgroup/cpu/box/cpu.cfs_quota_us"
    assert chosen.notes == (f"-t 4 is cut to 3: the cgroup's quota is 3.0 CPUs ({path})",)


def test_offline_cpus_are_left_out(sysfs: Path, proc: Path) -> None:
    write(sysfs, {f"{CPU}/online": "0,2-7,9-15\n"})
    assert choose_cpus(sysfs=sysfs, proc=proc).cpus == (0, 4, 2, 5, 3, 6, 9, 7)
    assert "may run on 14 CPUs" in choose_cpus(16, sysfs=sysfs, proc=proc).notes[0]


def test_cores_are_known_by_their_numbers_where_siblings_are_not_listed(
    sysfs: Path, proc: Path
) -> None:
    for path in sysfs.glob(f"{CPU}/cpu*/topology/thread_siblings_list"):
        path.unlink()
    assert choose_cpus(sysfs=sysfs, proc=proc).cpus == (0, 4, 1, 5, 2, 6, 3, 7)


def test_without_sys_every_cpu_is_a_core_of_one_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    chosen = choose_cpus(sysfs=tmp_path / "none", proc=tmp_path / "none")
    assert chosen == ThreadCpus((0, 1, 2), (0, 0, 0), (0,), ())
    cut = choose_cpus(5, sysfs=tmp_path / "none", proc=tmp_path / "none")
    assert cut.notes == ("-t 5 is cut to 3: this process may run on 3 CPUs (os.cpu_count)",)


def test_this_machine_has_a_cpu_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    chosen = choose_cpus(1)
    assert len(chosen.cpus) == 1
    assert chosen.nodes == (0,)


def test_nodes_with_memory_come_first(
    sysfs: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node, kib in ((0, 0), (2, 1 << 20)):
        text = f"Node {node} MemTotal: {kib} kB\n"
        write(sysfs, {f"devices/system/node/node{node}/meminfo": text})
    chosen = choose_cpus(3, sysfs=sysfs, proc=proc)
    assert (chosen.cpus, chosen.nodes, chosen.system_nodes) == ((4, 0, 5), (0, 1, 0), (2, 0))
    may_run_on(monkeypatch, {0, 1})
    chosen = choose_cpus(sysfs=sysfs, proc=proc)
    assert (chosen.nodes, chosen.system_nodes) == ((0, 0), (0,))


def test_a_described_machine_gives_a_thread_to_each_core_in_turn_over_its_nodes() -> None:
    nodes = (NumaNode(0, (0, 1, 4, 5), 8, 8), NumaNode(1, (2, 3, 6, 7), 8, 8))
    host = Device(HOST, DeviceKind.CPU, 16, 16)
    machine = Machine((host,), (), nodes, physical_cores=4, usable_cpus=8)
    chosen = described_cpus(machine)
    assert chosen == ThreadCpus((0, 2, 1, 3), (0, 1, 0, 1), (0, 1), ())
    assert described_cpus(machine, 1) == ThreadCpus((0,), (0,), (0,), ())
    assert described_cpus(machine, 9).notes == ("-t 9 is cut to 8: the machine has 8 CPUs",)
    without_nodes = Machine((host,), physical_cores=2, usable_cpus=2)
    assert described_cpus(without_nodes) == ThreadCpus((0, 1), (0, 0), (0,), ())
