"""Which node gets which bytes, from the plan alone."""

import os
from dataclasses import replace
from functools import partial

import pytest

from hybrid.runtime.node_layout import MOST_PARTS, cut, part_bytes
from hybrid.runtime.numa_calls import NumaPolicy
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from kernels.native.records import MAX_PARTS
from placement.machines.cpus import choose_cpus
from placement.machines.probe import numa_nodes, probe_machine
from tests.runtime.machines import GIB, pretend_nodes
from tools.make_model import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Experts of 11 blocks of 32 values, in two of three layers."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return make_model(path, type="Q4_0", expert_feed_forward=352)


def layout_of(path, **options):
    options = {"devices": ("none",), "numa": "shard"} | options
    return prepare(path, LoadOptions.from_keywords(**options)).layout


@pytest.mark.parametrize(
    ("length", "step", "count", "bounds"),
    [
        (1408, 32, 3, (0, 480, 960, 1408)),
        (2048, 256, 2, (0, 1024, 2048)),
        (1408, 32, 1, (0, 1408)),
        (64, 32, 2, (0, 32, 64)),
        (256, 256, 2, None),
        (100, 32, 2, None),
    ],
)
def test_a_length_is_cut_at_whole_blocks_and_fairly(length, step, count, bounds):
    assert cut(length, step, count) == bounds


def test_parts_of_a_matrix_sum_to_it():
    assert part_bytes(1408 * 18, (0, 480, 960, 1408)) == [480 * 18, 480 * 18, 448 * 18]


def test_every_expert_matrix_in_ram_is_cut(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)
    layout = layout_of(model)
    assert (layout.policy, layout.nodes, layout.notes) == (NumaPolicy.SHARD, (0, 1), ())
    assert sorted(name for name, _ in layout.cuts) == sorted(
        f"blk.{layer}.ffn_{matrix}_exps.weight"
        for layer in (1, 2)
        for matrix in ("gate", "up", "down")
    )
    assert set(layout.cuts.values()) == {(0, 192, 352)}


@pytest.mark.parametrize("numa", ["interleave", "shard"])
@pytest.mark.parametrize("count", [2, 3])
def test_bytes_of_the_nodes_sum_to_the_plan(model, monkeypatch, numa, count):
    pretend_nodes(monkeypatch, *[GIB] * count)
    prepared = prepare(model, LoadOptions.from_keywords(devices=("none",), numa=numa))
    [host] = prepared.plan.devices
    total = sum(prepared.layout.node_bytes.values())
    assert 0 <= host.weights_bytes + host.cache_bytes - total < count
    assert len(prepared.layout.node_bytes) == count


def test_one_node_leaves_nothing_to_divide_and_says_so(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB)
    layout = layout_of(model)
    assert layout.policy is NumaPolicy.INTERLEAVE
    assert not layout.cuts
    assert "fewer than two NUMA nodes" in layout.notes[0]
    assert layout_of(model, numa="interleave").notes == ()


def test_too_few_blocks_leave_a_layer_interleaved(monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)  # the demo's down rows are one block of 256
    layout = layout_of("demo")
    assert layout.policy is NumaPolicy.INTERLEAVE
    assert not layout.cuts
    assert "layers 1-4 are interleaved" in layout.notes[0]


def test_experts_whose_matrices_lie_apart_stay_whole(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)
    layout = layout_of(
        model, devices=None, simulate={"CUDA0": GIB}, rules=["blk.1.ffn_up_exps=CUDA0", "exps=CPU"]
    )
    assert {name.split(".")[1] for name, _ in layout.cuts} == {"2"}
    assert "layers 1 are interleaved" in layout.notes[0]


def test_a_range_of_experts_in_ram_is_cut_alone(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)
    layout = layout_of(
        model, devices=None, simulate={"CUDA0": GIB}, rules=["exps#0-2=CUDA0", "exps=CPU"]
    )
    assert {experts for _, experts in layout.cuts} == {(3, 7)}
    assert layout.notes == ()


def test_a_node_that_is_too_full_turns_shard_into_interleave(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, 1 << 10)
    layout = layout_of(model)
    assert layout.policy is NumaPolicy.INTERLEAVE
    assert not layout.cuts
    assert "node1 has 1.0 KiB free" in layout.notes[0]
    assert "will go to other nodes" in layout.notes[1]


def test_a_node_without_cpus_gets_pages_but_no_parts(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB, GIB, without_cpus=(1,))
    layout = layout_of(model)
    assert (layout.nodes, layout.part_nodes) == ((0, 1, 2), (0, 2))
    assert set(layout.cuts.values()) == {(0, 192, 352)}
    assert 0 < layout.node_bytes[1] < layout.node_bytes[2] < layout.node_bytes[0]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes `prepare` see nodes with these CPUs and, unless without, 1 GiB each."""

    def make(cpulists, may_run_on, without_memory=()):
        sysfs = tmp_path / "sys"
        for node, cpus in enumerate(cpulists):
            folder = sysfs / f"devices/system/node/node{node}"
            folder.mkdir(parents=True)
            kib = 0 if node in without_memory else GIB >> 10
            (folder / "cpulist").write_text(f"{cpus}\n")
            (folder / "meminfo").write_text(
                f"Node {node} MemTotal: {kib} kB\nNode {node} MemFree: {kib} kB\n"
            )
        proc = tmp_path / "proc"
        nodes = numa_nodes(sysfs, proc)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(may_run_on), raising=False)
        monkeypatch.setattr(
            "hybrid.runtime.machines.probe_machine",
            lambda **given: replace(probe_machine(**given), numa_nodes=nodes),
        )
        monkeypatch.setattr(
            "hybrid.runtime.prepare.choose_cpus", partial(choose_cpus, sysfs=sysfs, proc=proc)
        )

    return make


def node_of_parts(prepared):
    """The system's node of each worker's own part; None without one."""
    parts = prepared.layout.part_nodes
    return [parts[node] if node < len(parts) else None for node in prepared.cpus.nodes]


SHARD = LoadOptions.from_keywords(devices=("none",), numa="shard")


def test_parts_are_numbered_as_the_nodes_of_the_threads_affinity_allows(model, tree):
    tree(("0,3", "1,4", "2,5"), may_run_on=(1, 2, 4, 5))
    prepared = prepare(model, SHARD)
    assert (prepared.layout.nodes, prepared.layout.part_nodes) == ((0, 1, 2), (1, 2))
    assert prepared.cpus.cpus == (1, 2, 4, 5)
    assert node_of_parts(prepared) == [1, 2, 1, 2]
    assert prepared.plan.workload.threads == 4


def test_parts_are_numbered_past_a_node_without_cpus(model, tree):
    tree(("", "1,4", "2,5"), may_run_on=(1, 2, 4, 5))
    prepared = prepare(model, SHARD)
    assert prepared.layout.part_nodes == (1, 2)
    assert node_of_parts(prepared) == [1, 2, 1, 2]


def test_a_node_without_memory_has_workers_and_no_part(model, tree):
    tree(("0,3", "1,4", "2,5"), may_run_on=range(6), without_memory=(0,))
    prepared = prepare(model, SHARD)
    assert prepared.layout.part_nodes == (1, 2)
    assert prepared.cpus.cpus == (1, 2, 0, 4, 5, 3)
    assert node_of_parts(prepared) == [1, 2, None, 1, 2, None]


def test_threads_on_one_node_leave_nothing_to_divide(model, tree):
    tree(("0,3", "1,4", "2,5"), may_run_on=(1, 4))
    layout = prepare(model, SHARD).layout
    assert (layout.policy, layout.cuts) == (NumaPolicy.INTERLEAVE, {})
    assert "fewer than two NUMA nodes" in layout.notes[0]


def test_more_nodes_than_a_kernel_has_parts_are_interleaved(model, monkeypatch):
    assert MOST_PARTS == MAX_PARTS
    pretend_nodes(monkeypatch, *[GIB] * (MAX_PARTS + 1))
    layout = layout_of(model)
    assert (layout.policy, layout.cuts) == (NumaPolicy.INTERLEAVE, {})
    assert "17 NUMA nodes, at most 16" in layout.notes[0]


def test_mapped_weights_are_not_divided(model, monkeypatch):
    pretend_nodes(monkeypatch, GIB, GIB)
    layout = layout_of(model, mmap=True)
    assert not layout.cuts
    assert "--mmap" in layout.notes[0]


@pytest.mark.parametrize("numa", ["local", "off"])
def test_what_the_system_decides_has_no_bytes_per_node(model, monkeypatch, numa):
    pretend_nodes(monkeypatch, GIB, GIB)
    layout = layout_of(model, numa=numa)
    assert layout.node_bytes is None
    assert "the system decides" in layout.text()
