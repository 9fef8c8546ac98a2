"""Write a tiny random deepseek2 GGUF: every layout and routing of real files in a few hundred KB.

    python -m tools.make_model tiny.gguf --preset v3 --layout mla --type Q8_0 --seed 1

The vocabulary is byte-level BPE (256 bytes, some merges, DeepSeek's special tokens), so that the
engine runs from text to text. The same arguments write the same bytes. Needs numpy and gguf only.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from tools.tiny_vocabulary import write_vocabulary

LAYOUTS = ("mla", "legacy", "ik")
ALWAYS_F32 = ("norm.weight", "ffn_gate_inp.weight", "exp_probs_b.bias")

Weights = dict[str, np.ndarray]
Draw = Callable[..., np.ndarray]  # shape -> random float32 values


@dataclass(frozen=True)
class Recipe:
    """A model to write; lengths in values. Row lengths of weights should be multiples of 32.

    type           format of everything that quantisers do not keep in F32; rows it cannot cut
                   into blocks become Q8_0, or F32
    layout         mla: attn_k_b and attn_v_b; legacy: attn_kv_b; ik: all three, 2-D
    gating         1 softmax, 2 sigmoid, 0 leaves the key out
    groups         groups and groups used; None leaves the keys out
    yarn           factor, log multiplier, beta fast, beta slow; None for plain rope
    merged         one ffn_gate_up_exps in the place of gate and up
    split_tensors  tensors per part of a split file; 0 writes one file
    vocabulary     False leaves all tokenizer keys out
    """

    seed: int = 0
    type: str = "Q8_0"
    layout: str = "mla"
    layers: int = 3
    dense_layers: int = 1
    nextn: int = 0
    width: int = 64
    heads: int = 4
    nope: int = 32
    rope: int = 16
    value: int = 32
    latent: int = 64
    query_latent: int = 32
    feed_forward: int = 96
    experts: int = 8
    used: int = 3
    expert_feed_forward: int = 32
    shared: int = 1
    gating: int = 2
    bias: bool = True
    normalise: bool = True
    scale: float = 2.5
    groups: tuple[int, int] | None = (4, 2)
    base: float = 10000.0
    yarn: tuple[float, float, float, float] | None = (40.0, 0.1, 32.0, 1.0)
    context: int = 4096
    tokens: int = 320
    tied: bool = False
    merged: bool = False
    split_tensors: int = 0
    vocabulary: bool = True


SOFTMAX = {"gating": 1, "bias": False, "normalise": False, "yarn": (40.0, 0.0707, 32.0, 1.0)}
PRESETS = {
    "v3": Recipe(),
    "v2": Recipe(**SOFTMAX, scale=16.0, shared=2),
    "v2lite": Recipe(**SOFTMAX, scale=1.0, shared=2, groups=(1, 1), query_latent=0),
    "kimi": Recipe(scale=2.827, groups=(1, 1), base=50000.0, yarn=(32.0, 0.1, 1.0, 1.0), used=4),
    "plain": Recipe(groups=None, yarn=None, tied=True, scale=2.446),
}


def make_model(path: str | Path, preset: str = "v3", **changes: object) -> Path:
    """Write the preset with any fields of `Recipe` changed.

    returns  the file, or the first part ("...-00001-of-0000N.gguf") of a split one
    """
    path, recipe = Path(path), replace(PRESETS[preset], **changes)
    writer = gguf.GGUFWriter(path, "deepseek2", split_max_tensors=recipe.split_tensors)
    write_metadata(writer, recipe, f"tiny-{preset}")
    for name, values in in_layout(random_weights(recipe), recipe).items():
        data, number = encoded(name, values, GGMLQuantizationType[recipe.type])
        writer.add_tensor(name, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (
        path if path.exists() else next(iter(sorted(path.parent.glob(f"{path.stem}-00001-of-*"))))
    )


def random_weights(recipe: Recipe) -> Weights:
    """Tensors of the legacy layout, float32, scaled so that activations keep their size."""
    random = np.random.default_rng(recipe.seed)

    def matrix(*shape: int, gain: float = 1.0) -> np.ndarray:
        return (random.standard_normal(shape) * gain / np.sqrt(shape[-1])).astype(np.float32)

    def norm(length: int) -> np.ndarray:
        return random.uniform(0.6, 1.4, length).astype(np.float32)

    width, head_gain = recipe.width, 2.0
    embedding = random.standard_normal((recipe.tokens, width)).astype(np.float32)
    if recipe.tied:
        embedding *= np.float32(head_gain / np.sqrt(width))
    weights = {"token_embd.weight": embedding, "output_norm.weight": norm(width)}
    if not recipe.tied:
        weights["output.weight"] = matrix(recipe.tokens, width, gain=head_gain)
    for layer in range(recipe.layers + recipe.nextn):
        block = attention_weights(recipe, matrix, norm)
        dense = layer < recipe.dense_layers
        block |= dense_weights(recipe, matrix) if dense else expert_weights(recipe, matrix, norm)
        if layer >= recipe.layers:
            block["nextn.eh_proj.weight"] = matrix(width, 2 * width)
            for name in ("enorm", "hnorm", "shared_head_norm"):
                block[f"nextn.{name}.weight"] = norm(width)
        weights |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    return weights


def attention_weights(recipe: Recipe, matrix: Draw, norm: Draw) -> Weights:
    width, heads, key = recipe.width, recipe.heads, recipe.nope + recipe.rope
    block = {"attn_norm.weight": norm(width)}
    if recipe.query_latent:
        block["attn_q_a.weight"] = matrix(recipe.query_latent, width)
        block["attn_q_a_norm.weight"] = norm(recipe.query_latent)
        block["attn_q_b.weight"] = matrix(heads * key, recipe.query_latent, gain=1.5)
    else:
        block["attn_q.weight"] = matrix(heads * key, width, gain=1.5)
    block["attn_kv_a_mqa.weight"] = matrix(recipe.latent + recipe.rope, width)
    block["attn_kv_a_norm.weight"] = norm(recipe.latent)
    block["attn_kv_b.weight"] = matrix(heads * (recipe.nope + recipe.value), recipe.latent)
    block["attn_output.weight"] = matrix(width, heads * recipe.value, gain=0.7)
    block["ffn_norm.weight"] = norm(width)
    return block


def dense_weights(recipe: Recipe, matrix: Draw) -> Weights:
    return {
        "ffn_gate.weight": matrix(recipe.feed_forward, recipe.width),
        "ffn_up.weight": matrix(recipe.feed_forward, recipe.width),
        "ffn_down.weight": matrix(recipe.width, recipe.feed_forward),
    }


def expert_weights(recipe: Recipe, matrix: Draw, norm: Draw) -> Weights:
    width, length, experts = recipe.width, recipe.expert_feed_forward, recipe.experts
    share = recipe.scale * (1.0 if recipe.normalise else recipe.used / experts)
    block = {"ffn_gate_inp.weight": matrix(experts, width, gain=1.5)}
    if recipe.bias:
        block["exp_probs_b.bias"] = (norm(experts) - 1.0) * np.float32(0.4)
    block["ffn_gate_exps.weight"] = matrix(experts, length, width)
    block["ffn_up_exps.weight"] = matrix(experts, length, width)
    block["ffn_down_exps.weight"] = matrix(experts, width, length, gain=1.5 / share)
    if recipe.shared:
        block["ffn_gate_shexp.weight"] = matrix(recipe.shared * length, width)
        block["ffn_up_shexp.weight"] = matrix(recipe.shared * length, width)
        block["ffn_down_shexp.weight"] = matrix(width, recipe.shared * length)
    return block


def in_layout(weights: Weights, recipe: Recipe) -> Weights:
    """The same model with attn_kv_b and the experts' gate and up held as the recipe says."""
    laid: Weights = {}
    for name, values in weights.items():
        if name.endswith("attn_kv_b.weight") and recipe.layout != "legacy":
            if recipe.layout == "ik":
                laid[name] = values
            laid |= split_key_value(name.removesuffix("attn_kv_b.weight"), values, recipe)
        elif recipe.merged and name.endswith("ffn_gate_exps.weight"):
            up = weights[name.replace("gate", "up")]
            laid[name.replace("gate", "gate_up")] = np.concatenate([values, up], axis=1)
        elif not (recipe.merged and name.endswith("ffn_up_exps.weight")):
            laid[name] = values
    return laid


def split_key_value(block: str, joined: np.ndarray, recipe: Recipe) -> Weights:
    """attn_k_b [heads, latent, nope] and attn_v_b [heads, value, latent], flat in the ik layout."""
    by_head = joined.reshape(recipe.heads, recipe.nope + recipe.value, recipe.latent)
    key = np.ascontiguousarray(by_head[:, : recipe.nope].swapaxes(1, 2))
    value = np.ascontiguousarray(by_head[:, recipe.nope :])
    if recipe.layout == "ik":
        key, value = key.reshape(-1, recipe.nope), value.reshape(-1, recipe.latent)
    return {f"{block}attn_k_b.weight": key, f"{block}attn_v_b.weight": value}


def encoded(
    name: str, values: np.ndarray, number: GGMLQuantizationType
) -> tuple[np.ndarray, GGMLQuantizationType]:
    f32, q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0
    choices = (f32,) if name.endswith(ALWAYS_F32) else (number, q8_0, f32)
    blocks = gguf.GGML_QUANT_SIZES
    chosen = next(n for n in choices if values.shape[-1] % blocks[n][0] == 0)
    if chosen == f32:
        return values, chosen
    if chosen == GGMLQuantizationType.F16:
        return values.astype(np.float16), chosen
    return gguf.quants.quantize(values, chosen), chosen


def write_metadata(writer: gguf.GGUFWriter, recipe: Recipe, name: str) -> None:
    writer.add_name(name)
    writer.add_block_count(recipe.layers + recipe.nextn)
    writer.add_context_length(recipe.context)
    writer.add_embedding_length(recipe.width)
    writer.add_feed_forward_length(recipe.feed_forward)
    writer.add_leading_dense_block_count(recipe.dense_layers)
    writer.add_vocab_size(recipe.tokens)
    writer.add_layer_norm_rms_eps(1e-6)
    if recipe.nextn:
        writer.add_nextn_predict_layers(recipe.nextn)
    write_attention_keys(writer, recipe)
    write_expert_keys(writer, recipe)
    if recipe.vocabulary:
        write_vocabulary(writer, recipe.tokens)


def write_attention_keys(writer: gguf.GGUFWriter, recipe: Recipe) -> None:
    key = recipe.nope + recipe.rope
    mla = recipe.layout == "mla"
    writer.add_head_count(recipe.heads)
    writer.add_head_count_kv(1 if mla else recipe.heads)
    writer.add_kv_lora_rank(recipe.latent)
    if recipe.query_latent:
        writer.add_q_lora_rank(recipe.query_latent)
    writer.add_key_length(recipe.latent + recipe.rope if mla else key)
    writer.add_value_length(recipe.latent if mla else recipe.value)
    if mla:
        writer.add_key_length_mla(key)
        writer.add_value_length_mla(recipe.value)
    writer.add_rope_dimension_count(recipe.rope)
    writer.add_rope_freq_base(recipe.base)
    if recipe.yarn:
        factor, multiplier, beta_fast, beta_slow = recipe.yarn
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(factor)
        writer.add_rope_scaling_orig_ctx_len(max(1, int(recipe.context / factor)))
        writer.add_rope_scaling_yarn_log_mul(multiplier)
        writer.add_rope_scaling_yarn_beta_fast(beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(beta_slow)


def write_expert_keys(writer: gguf.GGUFWriter, recipe: Recipe) -> None:
    writer.add_expert_count(recipe.experts)
    writer.add_expert_used_count(recipe.used)
    writer.add_expert_feed_forward_length(recipe.expert_feed_forward)
    writer.add_expert_shared_count(recipe.shared)
    writer.add_expert_weights_scale(recipe.scale)
    writer.add_expert_weights_norm(recipe.normalise)
    if recipe.gating:
        writer.add_uint32("deepseek2.expert_gating_func", recipe.gating)
    if recipe.groups:
        writer.add_expert_group_count(recipe.groups[0])
        writer.add_expert_group_used_count(recipe.groups[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="v3")
    parser.add_argument("--layout", choices=LAYOUTS, default="mla")
    for field in fields(Recipe):
        if field.type in (int, float, str, "int", "float", "str") and field.name != "layout":
            kind = type(field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind)
        elif field.type in (bool, "bool"):
            name = f"--{field.name}"
            parser.add_argument(name, action=argparse.BooleanOptionalAction)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    path = make_model(given.pop("path"), given.pop("preset"), **given)
    print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
