"""Experts cut over NUMA nodes: the same bytes, the same answers. The nodes are pretended: memory
that cannot be bound to them is noted, and everything else happens as on a machine that has them.
"""

import numpy as np
import pytest
import torch

import hybrid
from hybrid.gguf.reader import GgufFile
from hybrid.runtime.reading import read_weights
from hybrid.runtime.shards import NodeParts, halves, node_parts, part_pieces
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from tests.runtime.machines import GIB, pretend_nodes
from tools.make_model import make_model

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
BOUNDS = (0, 160, 256, 352)


def loaded_parts(path, name, most_bytes=1 << 20, first=0, count=8) -> NodeParts:
    file = GgufFile.open(path)
    tensor = file.tensors[name]
    expert_bytes = tensor.nbytes // tensor.shape[0]
    widths = np.diff(BOUNDS)
    rooms = [
        torch.full((count * expert_bytes * int(width) // BOUNDS[-1],), 0xEE, dtype=torch.uint8)
        for width in widths
    ]
    parts = node_parts(tensor, BOUNDS, rooms)
    pieces = list(part_pieces(tensor, BOUNDS, first * expert_bytes, parts, most_bytes))
    assert sum(piece.nbytes for piece in pieces) == count * expert_bytes
    read_weights(file, pieces, lambda done, total: None)
    return parts


def whole(path, name) -> torch.Tensor:
    """[experts, rows, columns] float32."""
    file = GgufFile.open(path)
    tensor = file.tensors[name]
    raw = torch.frombuffer(bytearray(file.data(tensor)), dtype=torch.uint8)
    blocks = raw.view(*tensor.shape[:-1], -1)
    return dequantize(BlockTensor(blocks, tensor.format, tensor.shape[-1]))


@pytest.fixture(scope="module", params=["Q8_0", "Q5_1", "Q4_0", "F16", "BF16", "F32"])
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return make_model(path, type=request.param, expert_feed_forward=352)


@pytest.mark.parametrize("most_bytes", [1 << 20, 1000])
@pytest.mark.parametrize("matrix", ["gate", "up", "down"])
def test_parts_are_the_stretches_of_the_whole(model, matrix, most_bytes):
    name = f"blk.1.ffn_{matrix}_exps.weight"
    parts = loaded_parts(model, name, most_bytes)
    expected = whole(model, name)
    assert parts.shape == tuple(expected.shape)
    dim = 2 if matrix == "down" else 1
    for n, part in enumerate(parts.parts):
        stretch = expected.narrow(dim, BOUNDS[n], BOUNDS[n + 1] - BOUNDS[n])
        assert part.blocks.is_contiguous()
        assert torch.equal(dequantize(part), stretch)


def test_parts_of_a_range_of_experts_are_read_from_its_first(model):
    name = "blk.2.ffn_down_exps.weight"
    parts = loaded_parts(model, name, first=3, count=4)
    expected = whole(model, name)[3:7]
    assert torch.equal(dequantize(parts.parts[1]), expected[:, :, BOUNDS[1] : BOUNDS[2]])
    fewer = parts[1:3]
    assert fewer.shape == (2, *expected.shape[1:])
    assert torch.equal(dequantize(fewer.parts[2]), expected[1:3, :, BOUNDS[2] :])


def test_gate_and_up_in_one_tensor_are_cut_each(tmp_path):
    path = make_model(tmp_path / "merged.gguf", expert_feed_forward=352, merged=True)
    name = "blk.1.ffn_gate_up_exps.weight"
    expected = whole(path, name)
    for half, first in zip(halves(loaded_parts(path, name)), (0, 352), strict=True):
        assert half.shape == (8, 352, expected.shape[2])
        for n, part in enumerate(half.parts):
            rows = expected[:, first + BOUNDS[n] : first + BOUNDS[n + 1]]
            assert torch.equal(dequantize(part), rows)


@pytest.mark.parametrize("nodes", [2, 3, 11])
@pytest.mark.parametrize("merged", [False, True])
def test_a_sharded_model_gives_the_logits_of_a_whole_one(tmp_path, monkeypatch, nodes, merged):
    path = make_model(tmp_path / "tiny.gguf", expert_feed_forward=352, merged=merged)
    expected = hybrid.load(path, kernels="exact", devices=("none",)).logits(IDS)
    pretend_nodes(monkeypatch, *[GIB] * nodes)
    engine = hybrid.load(path, kernels="exact", devices=("none",), numa="shard")
    assert len(engine.memories["CPU"].bound) == nodes
    np.testing.assert_allclose(engine.logits(IDS), expected, atol=2e-5)


def test_a_range_of_experts_is_sharded_beside_a_gpu(tmp_path, monkeypatch):
    path = make_model(tmp_path / "tiny.gguf", expert_feed_forward=352)
    expected = hybrid.load(path, kernels="exact", devices=("none",)).logits(IDS)
    pretend_nodes(monkeypatch, GIB, GIB)
    engine = hybrid.load(
        path,
        kernels="exact",
        simulate={"CUDA0": GIB},
        rules=["exps#0-2=CUDA0", "exps=CPU"],
        numa="shard",
    )
    assert len(engine.memories["CPU"].bound) == 2
    np.testing.assert_allclose(engine.logits(IDS), expected, atol=2e-5)


def test_every_planned_byte_is_taken_and_read_once_under_shard(tmp_path, monkeypatch):
    path = make_model(tmp_path / "tiny.gguf", expert_feed_forward=352)
    pretend_nodes(monkeypatch, GIB, GIB)
    seen = []
    engine = hybrid.load(
        path,
        kernels="exact",
        devices=("none",),
        numa="shard",
        progress=lambda done, total: seen.append((done, total)),
    )
    [host] = engine.plan.devices
    assert seen[-1] == (host.weights_bytes, host.weights_bytes)
    assert engine.memories["CPU"].used["weights"] == host.weights_bytes
