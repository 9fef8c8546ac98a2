from pathlib import Path

import gguf
import pytest

from tools.make_model import PRESETS, make_model

ENCODABLE = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"]


def test_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    one, other, seeded = (
        make_model(tmp_path / f"{i}.gguf", seed=seed).read_bytes()
        for i, seed in enumerate([3, 3, 4])
    )
    assert one == other
    assert one != seeded


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_stays_a_few_hundred_kilobytes(tmp_path: Path, preset: str) -> None:
    assert make_model(tmp_path / "m.gguf", preset).stat().st_size < 400 << 10


@pytest.mark.parametrize("name", ENCODABLE)
def test_matrices_have_the_asked_type_and_norms_are_f32(tmp_path: Path, name: str) -> None:
    reader = gguf.GGUFReader(make_model(tmp_path / "m.gguf", type=name))
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.1.ffn_gate_exps.weight"] == types["blk.0.attn_k_b.weight"] == name
    assert types["blk.1.ffn_gate_inp.weight"] == types["output_norm.weight"] == "F32"


def test_vocabulary_covers_bytes_and_specials(tmp_path: Path) -> None:
    fields = gguf.GGUFReader(make_model(tmp_path / "m.gguf")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == len(set(tokens)) == 320
    for merge in fields["tokenizer.ggml.merges"].contents():
        left, right = merge.split(" ")
        assert {left, right, left + right} <= set(tokens)
    assert (
        "tokenizer.ggml.tokens"
        not in gguf.GGUFReader(make_model(tmp_path / "n.gguf", vocabulary=False)).fields
    )
