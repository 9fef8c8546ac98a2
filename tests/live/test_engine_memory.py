"""What a loaded engine's process holds, for the live view."""

import pytest

import hybrid
from hybrid.live import engine_memory
from hybrid.live.engine_memory import held_bytes, ours_by_node
from hybrid.runtime.audit import actual_bytes
from placement.machines.machine import CPU
from placement.report.audit import TOTAL


@pytest.fixture(scope="module")
def engine():
    return hybrid.load(
        "demo", simulate={"CUDA0": 1 << 30}, rules=["exps=CPU"], threads=1, context=64
    )


def test_held_bytes_are_the_audit_s_totals(engine):
    held = held_bytes(engine)
    audited = actual_bytes(engine)
    assert held["CUDA0"] == sum(audited["CUDA0"].values())
    assert held[CPU] == pytest.approx(audited[CPU][TOTAL], rel=0.05)


def test_pages_of_arenas_lie_on_nodes(engine):
    nodes = ours_by_node(engine)
    taken = sum(sum(its.used.values()) for its in engine.memories.values())
    assert sum(nodes.values()) >= 0.5 * taken
    assert all(node >= 0 for node in nodes)


def test_a_gpu_that_is_lost_leaves_nothing_to_tell(engine, monkeypatch):
    def lost(_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(engine_memory, "actual_bytes", lost)
    assert held_bytes(engine) == {}
