"""Properties that any deepseek2 model has, on made models over plain parts."""

from pathlib import Path

import pytest
import torch

from hybrid.errors import UnsupportedModel
from hybrid.models.config import ModelConfig
from hybrid.models.deepseek import build
from tests.models.plain_parts import FileTensor, PlainFile, PlainParts
from tests.models.running import ABSORBED, EXPANDED, logits_of
from tools.make_model import LAYOUTS, PRESETS, make_model

IDS = [0, *range(40, 62)]
WHOLE = [len(IDS)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_absorbed_and_expanded_attention_are_the_same_sum(
    tmp_path: Path, preset: str, layout: str
) -> None:
    path = make_model(tmp_path / "m.gguf", preset, layout=layout, type="F32")
    absorbed = logits_of(path, IDS, WHOLE, absorb_up_to=ABSORBED)
    expanded = logits_of(path, IDS, WHOLE, absorb_up_to=EXPANDED)
    assert absorbed.std() > 0.5
    torch.testing.assert_close(absorbed, expanded, atol=2e-5, rtol=0)


@pytest.mark.parametrize("steps", [[1] * 23, [7, 7, 7, 2], [22, 1], [1, 22]], ids=str)
def test_prompt_in_chunks_equals_the_prompt_at_once(tmp_path: Path, steps: list[int]) -> None:
    path = make_model(tmp_path / "m.gguf", type="F32")
    whole = logits_of(path, IDS, WHOLE, absorb_up_to=4)
    chunked = logits_of(path, IDS, steps, absorb_up_to=4)
    torch.testing.assert_close(chunked, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", [ABSORBED, EXPANDED], ids=["absorbed", "expanded"])
@pytest.mark.parametrize("work_bytes", [1, 20_000])
def test_work_buffer_of_any_size_gives_the_same_logits(
    tmp_path: Path, form: int, work_bytes: int
) -> None:
    path = make_model(tmp_path / "m.gguf", layout="legacy", type="F32")
    whole = logits_of(path, IDS, [10, 13], absorb_up_to=form)
    small = logits_of(path, IDS, [10, 13], absorb_up_to=form, attention_work_bytes=work_bytes)
    torch.testing.assert_close(small, whole, atol=2e-5, rtol=0)


def test_layouts_of_one_model_give_the_same_logits(tmp_path: Path) -> None:
    found = [
        logits_of(make_model(tmp_path / f"{layout}.gguf", layout=layout, type="F32"), IDS, WHOLE)
        for layout in LAYOUTS
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("change", [{"nextn": 1}, {"merged": True}, {"split_tensors": 9}], ids=str)
def test_logits_do_not_depend_on_what_else_the_file_holds(
    tmp_path: Path, change: dict[str, int]
) -> None:
    plain = logits_of(make_model(tmp_path / "plain.gguf", type="F32"), IDS, WHOLE)
    changed = make_model(tmp_path / "changed.gguf", type="F32", **change)
    torch.testing.assert_close(logits_of(changed, IDS, WHOLE), plain, atol=2e-5, rtol=0)


def test_next_token_prediction_and_derived_tensors_are_left_unread(tmp_path: Path) -> None:
    file = PlainFile(make_model(tmp_path / "m.gguf", layout="ik", nextn=1))
    parts = PlainParts(file)
    build(ModelConfig.from_gguf(file), parts)
    unread = set(file.tensors) - parts.read
    assert unread == {
        name for name in file.tensors if "blk.3." in name or "attn_k_b" in name or "v_b" in name
    } - {f"blk.{layer}.attn_kv_b.weight" for layer in range(3)}


def test_tokens_do_not_see_later_tokens(tmp_path: Path) -> None:
    path = make_model(tmp_path / "m.gguf", type="F32")
    other = [*IDS[:-1], 200]
    first, second = logits_of(path, IDS, WHOLE), logits_of(path, other, WHOLE)
    torch.testing.assert_close(first[:-1], second[:-1], atol=2e-5, rtol=0)
    assert (first[-1] - second[-1]).abs().max() > 0.1


@pytest.mark.parametrize("fault", ["missing", "shape"])
@pytest.mark.parametrize(
    "name",
    ["output_norm.weight", "blk.2.ffn_down_exps.weight", "blk.1.ffn_gate_inp.weight"],
)
def test_missing_or_misshapen_tensor_is_named(tmp_path: Path, name: str, fault: str) -> None:
    file = PlainFile(make_model(tmp_path / "m.gguf"))
    tensors = dict(file.tensors)
    found = tensors.pop(name)
    if fault == "shape":
        tensors[name] = FileTensor((*found.shape[:-1], found.shape[-1] + 32), found.reader)
    file.__dict__["tensors"] = tensors
    with pytest.raises(UnsupportedModel, match=name):
        build(ModelConfig.from_gguf(file), PlainParts(file))
