"""Which node gets which bytes, from the plan alone."""

import pytest

from hybrid.runtime.node_layout import cut, part_bytes
from hybrid.runtime.numa_calls import NumaPolicy
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
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
