from collections.abc import Sequence
from pathlib import Path

import pytest

from hybrid.gguf import GgufFile
from hybrid.gguf.inventory import inventory
from placement.inventory import ModelInventory, ModelShape, Role
from tests.gguf.writer import STRING, U8, Key, Tensor, gguf_bytes
from tests.shared_folder import SHARED

REAL_FILES = sorted(
    path for folder in ("conformance/models", "models") for path in (SHARED / folder).glob("*.gguf")
)
DEEPSEEK2 = Key("general.architecture", STRING, "deepseek2")


def shape_of(layers: int) -> ModelShape:
    """Roles follow from the number of trunk blocks alone."""
    return ModelShape(
        layers=layers,
        dense_layers=1,
        embedding_length=256,
        feed_forward_length=512,
        head_count=8,
        key_length=96,
        value_length=64,
        latent_length=256,
        rope_length=32,
        vocabulary=64,
        expert_count=4,
        expert_used_count=2,
        expert_feed_forward_length=256,
        shared_feed_forward_length=256,
        trained_context_tokens=1024,
    )


def made(folder: Path, names: Sequence[str], layers: int = 2) -> ModelInventory:
    tensors = [Tensor(name, (256, 2, 4), 12, b"t" * 1152) for name in names]
    path = folder / "small.gguf"
    path.write_bytes(gguf_bytes([DEEPSEEK2], tensors))
    return inventory(GgufFile.open(path), shape_of(layers))


@pytest.mark.parametrize(
    ("name", "role", "layer"),
    [
        ("token_embd.weight", Role.EMBEDDING, None),
        ("output.weight", Role.HEAD, None),
        ("output_norm.weight", Role.NORM, None),
        ("rope_freqs.weight", Role.UNUSED, None),
        ("blk.0.attn_norm.weight", Role.NORM, 0),
        ("blk.0.ffn_norm.weight", Role.NORM, 0),
        ("blk.0.attn_q_a_norm.weight", Role.NORM, 0),
        ("blk.0.attn_kv_a_norm.weight", Role.NORM, 0),
        ("blk.1.attn_q.weight", Role.ATTENTION, 1),
        ("blk.1.attn_q_a.weight", Role.ATTENTION, 1),
        ("blk.1.attn_q_b.weight", Role.ATTENTION, 1),
        ("blk.1.attn_kv_a_mqa.weight", Role.ATTENTION, 1),
        ("blk.1.attn_kv_b.weight", Role.ATTENTION, 1),
        ("blk.1.attn_k_b.weight", Role.ATTENTION, 1),
        ("blk.1.attn_v_b.weight", Role.ATTENTION, 1),
        ("blk.1.attn_output.weight", Role.ATTENTION, 1),
        ("blk.0.ffn_gate.weight", Role.DENSE_FFN, 0),
        ("blk.0.ffn_up.weight", Role.DENSE_FFN, 0),
        ("blk.0.ffn_down.weight", Role.DENSE_FFN, 0),
        ("blk.1.ffn_gate_inp.weight", Role.ROUTER, 1),
        ("blk.1.exp_probs_b.bias", Role.ROUTER, 1),
        ("blk.1.ffn_gate_shexp.weight", Role.SHARED_EXPERT, 1),
        ("blk.1.ffn_up_shexp.weight", Role.SHARED_EXPERT, 1),
        ("blk.1.ffn_down_shexp.weight", Role.SHARED_EXPERT, 1),
        ("blk.1.ffn_gate_exps.weight", Role.ROUTED_EXPERT, 1),
        ("blk.1.ffn_up_exps.weight", Role.ROUTED_EXPERT, 1),
        ("blk.1.ffn_down_exps.weight", Role.ROUTED_EXPERT, 1),
        ("blk.1.ffn_gate_up_exps.weight", Role.ROUTED_EXPERT, 1),
        ("blk.2.ffn_gate_exps.weight", Role.MTP, 2),
        ("blk.2.attn_norm.weight", Role.MTP, 2),
        ("blk.2.nextn.eh_proj.weight", Role.MTP, 2),
        ("blk.1.ffn_gate.3.weight", Role.UNUSED, 1),
        ("blk.1.surprise.weight", Role.UNUSED, 1),
        ("blk.99999999999.attn_q.weight", Role.UNUSED, None),
        ("blk.x.attn_q.weight", Role.UNUSED, None),
        ("xblk.1.attn_q.weight", Role.UNUSED, None),
    ],
)
def test_name_tells_role_and_layer(
    tmp_path: Path, name: str, role: Role, layer: int | None
) -> None:
    (tensor,) = made(tmp_path, [name]).tensors
    assert (tensor.role, tensor.layer) == (role, layer)
    assert tensor.experts == (4 if role is Role.ROUTED_EXPERT else 0)
    assert (tensor.shape, tensor.format, tensor.nbytes) == ((4, 2, 256), "Q4_K", 1152)
    assert tensor.expert_bytes == (288 if role is Role.ROUTED_EXPERT else 1152)


def test_copies_derived_from_kv_b_are_unused_in_that_block_only(tmp_path: Path) -> None:
    names = [f"blk.{block}.attn_{kind}_b.weight" for block in (0, 1) for kind in ("k", "v")]
    roles = {t.name: t.role for t in made(tmp_path, [*names, "blk.1.attn_kv_b.weight"]).tensors}
    assert roles == {
        "blk.0.attn_k_b.weight": Role.ATTENTION,
        "blk.0.attn_v_b.weight": Role.ATTENTION,
        "blk.1.attn_k_b.weight": Role.UNUSED,
        "blk.1.attn_v_b.weight": Role.UNUSED,
        "blk.1.attn_kv_b.weight": Role.ATTENTION,
    }


def test_tensors_keep_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["output.weight", "blk.1.attn_q.weight", "blk.0.attn_q.weight", "a"]
    assert [tensor.name for tensor in made(tmp_path, names).tensors] == names


def test_model_is_called_by_its_key_or_else_by_its_file(tmp_path: Path) -> None:
    assert made(tmp_path, ["a"]).name == "small"
    path = tmp_path / "other.gguf"
    path.write_bytes(gguf_bytes([DEEPSEEK2, Key("general.name", STRING, "Tales")]))
    assert inventory(GgufFile.open(path), shape_of(1)).name == "Tales"
    path.write_bytes(gguf_bytes([DEEPSEEK2, Key("general.name", STRING, ""), Key("x", U8, 1)]))
    assert inventory(GgufFile.open(path), shape_of(1)).name == "other"


@pytest.mark.skipif(not REAL_FILES, reason="../shared is not here")
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_every_byte_of_a_real_model_has_its_role(path: Path) -> None:
    with GgufFile.open(path) as file:
        blocks = file.get_int("deepseek2.block_count")
        layers = blocks - file.get_int("deepseek2.nextn_predict_layers", 0)
        found = inventory(file, shape_of(layers))
        by_role = found.by_role()
        assert found.architecture == "deepseek2"
        assert found.nbytes == sum(by_role.values()) == sum(t.nbytes for t in file.tensors.values())
        mtp = [t.name for t in found.tensors if t.role is Role.MTP]
        assert all(".nextn." in name or f"blk.{layers}." in name for name in mtp)
        unused = [t.name for t in found.tensors if t.role is Role.UNUSED]
        copies = ("attn_k_b.weight", "attn_v_b.weight")
        assert all(name.endswith(copies) for name in unused)
        assert bool(unused) == ("-ik-" in path.name)
        experts = [t for t in found.tensors if t.role is Role.ROUTED_EXPERT]
        assert {t.experts for t in experts} == {file.get_int("deepseek2.expert_count")}
