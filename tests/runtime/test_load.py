"""What is told before weights are read, and what a load leaves behind."""

from dataclasses import replace

import numpy as np
import pytest

import hybrid
from hybrid.errors import UnsupportedModel
from hybrid.runtime.load import load_prepared
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import prepare
from placement.errors import DoesNotFit
from placement.machines.probe import probe_machine
from tools.make_model import make_model

MIB = 1 << 20


def renamed(path, old: bytes, new: bytes):
    """The file with a tensor's name changed to another of the same length."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"blk.2.attn_q_b.weight", b"blk.2.attn_q_x.weight", "blk.2.attn_q_b.weight is missing"),
        (b"blk.1.ffn_up_exps.weight", b"blk.1.ffn_ux_exps.weight", "ffn_up_exps.weight is missing"),
    ],
)
def test_a_missing_tensor_is_told_before_the_first_byte_is_read(tmp_path, old, new, words):
    path = renamed(make_model(tmp_path / "tiny.gguf"), old, new)
    read = []
    with pytest.raises(UnsupportedModel, match=words):
        hybrid.load(path, devices=("none",), progress=lambda done, total: read.append(done))
    assert read == []


def test_a_wrong_shape_is_told_before_the_first_byte_is_read(tmp_path):
    path = make_model(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    at = data.index(b"blk.1.ffn_down_shexp.weight") + len(b"blk.1.ffn_down_shexp.weight")
    lengths = data[at + 4 : at + 20]  # after the count of dimensions: [32, 64] becomes [64, 32]
    path.write_bytes(data[: at + 4] + lengths[8:] + lengths[:8] + data[at + 20 :])
    with pytest.raises(UnsupportedModel, match="wrong shape") as error:
        hybrid.load(path, devices=("none",))
    assert "[64, 32]" in str(error.value)


def test_progress_counts_every_planned_byte_once(tmp_path):
    seen = []
    engine = hybrid.load(
        make_model(tmp_path / "tiny.gguf"),
        devices=("none",),
        progress=lambda done, total: seen.append((done, total)),
    )
    weights = sum(use.weights_bytes for use in engine.plan.devices)
    assert seen[0] == (0, weights)
    assert seen[-1] == (weights, weights)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_simulated_gpus_count_as_ram(tmp_path, monkeypatch):
    path = make_model(tmp_path / "tiny.gguf")
    monkeypatch.setattr(
        "hybrid.runtime.machines.probe_machine",
        lambda **given: small_machine(given["simulate"]),
    )
    with pytest.raises(DoesNotFit, match="more RAM than is free"):
        hybrid.load(path, simulate={"CUDA0": 64 * MIB}, rules=[".*=CUDA0"], context=256, ubatch=64)


def test_a_plan_for_fewer_threads_is_refused_before_memory_is_touched(tmp_path, monkeypatch):
    path = make_model(tmp_path / "tiny.gguf")
    wanted = LoadOptions.from_keywords(devices=("none",), threads=1, context=32, ubatch=1)
    prepared = prepare(path, wanted)
    [host] = prepared.plan.devices
    small = replace(prepared.plan, devices=(replace(host, compute_bytes=100),))
    touched = []
    monkeypatch.setattr("hybrid.runtime.load.make_caches", lambda *given: touched.append(given))
    with pytest.raises(DoesNotFit, match="too little scratch") as error:
        load_prepared(replace(prepared, plan=small), None, wanted)
    assert "planned are 100 B for 1" in str(error.value)
    assert "-t 1" in error.value.remedies
    assert touched == []


def small_machine(simulate):
    machine = probe_machine(simulate=simulate)
    host = replace(machine.host, free_bytes=1 * MIB, process_bytes=0)
    return replace(machine, devices=(host, *machine.gpus))


def test_every_layout_of_a_model_gives_the_same_logits(tmp_path):
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    expected = None
    for layout in ("legacy", "mla", "ik"):
        for merged in (False, True):
            path = tmp_path / f"{layout}-{merged}.gguf"
            make_model(path, layout=layout, merged=merged, type="F32")
            logits = hybrid.load(path, devices=("none",), cache_format="f32").logits(ids)
            expected = logits if expected is None else expected
            np.testing.assert_allclose(logits, expected, atol=1e-4)
