"""Write the header of a full-size DeepSeek file without its data, to plan for models one has not.

    python -m tools.make_header deepseek-r1 r1.gguf [--type Q4_K_M] [--joined]
    hybrid plan r1.gguf --simulate CUDA0=24GiB,CUDA1=24GiB --ram 512GiB -ot exps=CPU

Names and shapes are those of the published files: attn_k_b and attn_v_b apart, as llama.cpp writes
them since May 2025 (1086 tensors of DeepSeek-R1), or attn_kv_b as before (--joined, 1025). --type
is a mix of formats, as published, or one format for all matrices. Rows that a format cannot cut
into whole blocks become Q8_0, and so do attn_k_b and attn_v_b, as in published mixes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from kernels.formats import BY_NAME
from tools.make_model import (
    ALWAYS_F32,
    Draw,
    Recipe,
    Weights,
    attention_weights,
    dense_weights,
    expert_weights,
    write_metadata,
)

V3 = Recipe(
    layers=61,
    dense_layers=3,
    width=7168,
    heads=128,
    nope=128,
    rope=64,
    value=128,
    latent=512,
    query_latent=1536,
    feed_forward=18432,
    experts=256,
    used=8,
    expert_feed_forward=2048,
    groups=(8, 4),
    context=163840,
    tokens=129280,
    vocabulary=False,
)
PRESETS = {
    "deepseek-r1": V3,
    "kimi-k2": replace(
        V3,
        dense_layers=1,
        heads=64,
        experts=384,
        groups=(1, 1),
        scale=2.827,
        base=50000.0,
        yarn=(32.0, 0.1, 1.0, 1.0),
        context=131072,
        tokens=163840,
    ),
    "deepseek-v2-lite": replace(
        V3,
        layers=27,
        dense_layers=1,
        width=2048,
        heads=16,
        query_latent=0,
        feed_forward=10944,
        experts=64,
        used=6,
        expert_feed_forward=1408,
        shared=2,
        groups=(1, 1),
        gating=1,
        bias=False,
        normalise=False,
        scale=1.0,
        yarn=(40.0, 0.0707, 32.0, 1.0),
        tokens=102400,
    ),
}


def q4_k_m(name: str, recipe: Recipe) -> str:
    """llama.cpp's Q4_K_M: more bits for the head, and for down in the first and the last eighth of
    the blocks and in every third between.
    """
    if name == "output.weight":
        return "Q6_K"
    if ".ffn_down" in name:
        layer, eighth = int(name.split(".")[1]), recipe.layers // 8
        last = layer >= 7 * recipe.layers // 8
        return "Q6_K" if layer < eighth or last or (layer - eighth) % 3 == 2 else "Q4_K"
    return _heads_apart(name) or "Q4_K"


def q2_k_xl(name: str, recipe: Recipe) -> str:
    """Unsloth's first Q2_K_XL of DeepSeek-R1: two bits for routed experts, three for down of the
    first three of these blocks; dense and shared feed-forwards and the head get six.
    """
    if "_exps." in name:
        layer = int(name.split(".")[1])
        few = "ffn_down" in name and layer < recipe.dense_layers + 3
        return "Q3_K" if few else "Q2_K"
    if ".ffn_" in name or name == "output.weight":
        return "Q6_K"
    return _heads_apart(name) or "Q4_K"


def _heads_apart(name: str) -> str | None:
    return "Q8_0" if name.endswith(("attn_k_b.weight", "attn_v_b.weight")) else None


MIXES = {"Q4_K_M": q4_k_m, "Q2_K_XL": q2_k_xl}


def make_header(
    path: str | Path,
    preset: str = "deepseek-r1",
    matrix_type: str = "Q4_K_M",
    *,
    joined: bool = False,
) -> Path:
    """Metadata and tensor table only: a few hundred kilobytes.

    matrix_type   a name of MIXES or of a format
    joined        attn_kv_b in place of attn_k_b and attn_v_b
    """
    recipe, path = PRESETS[preset], Path(path)
    mix = MIXES.get(matrix_type, lambda _name, _recipe: matrix_type)
    writer = gguf.GGUFWriter(path, "deepseek2")
    write_metadata(writer, recipe, preset)
    for name, shape in shapes(recipe, joined=joined).items():
        number = type_of(name, shape, GGMLQuantizationType[mix(name, recipe)])
        weights, nbytes = gguf.GGML_QUANT_SIZES[number]
        if number == GGMLQuantizationType.F32:
            size = int(np.prod(shape)) * 4
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size)
        else:
            raw = (*shape[:-1], shape[-1] // weights * nbytes)
            size = int(np.prod(raw))
            writer.add_tensor_info(name, raw, np.dtype(np.uint8), size, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def shapes(recipe: Recipe, *, joined: bool = False) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, in file order."""

    def matrix(*lengths: int, gain: float = 1.0) -> np.ndarray:
        return np.broadcast_to(np.float32(gain), lengths)  # a shape that takes no memory

    weights: Weights = {
        "token_embd.weight": matrix(recipe.tokens, recipe.width),
        "output_norm.weight": matrix(recipe.width),
        "output.weight": matrix(recipe.tokens, recipe.width),
    }
    for layer in range(recipe.layers):
        block = attention_weights(recipe, matrix, matrix)
        if not joined:
            del block["attn_kv_b.weight"]
            block["attn_k_b.weight"] = matrix(recipe.heads, recipe.latent, recipe.nope)
            block["attn_v_b.weight"] = matrix(recipe.heads, recipe.value, recipe.latent)
        dense = layer < recipe.dense_layers
        block |= dense_weights(recipe, matrix) if dense else _expert_shapes(recipe, matrix)
        weights |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    return {name: values.shape for name, values in weights.items()}


def _expert_shapes(recipe: Recipe, matrix: Draw) -> Weights:
    flat = replace(recipe, bias=False)
    block = expert_weights(flat, matrix, matrix)
    if recipe.bias:
        block["exp_probs_b.bias"] = matrix(recipe.experts)
    return block


def type_of(
    name: str, shape: tuple[int, ...], wanted: GGMLQuantizationType
) -> GGMLQuantizationType:
    """F32 for what quantisers leave, Q8_0 where rows are no whole blocks of the wanted type."""
    if name.endswith(ALWAYS_F32):
        return GGMLQuantizationType.F32
    if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0]:
        return GGMLQuantizationType.Q8_0
    return wanted


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("path", type=Path)
    parser.add_argument(
        "--type",
        default="Q4_K_M",
        choices=(*MIXES, *BY_NAME),
        help="mix of formats, or the one of all matrices (default Q4_K_M)",
    )
    parser.add_argument("--joined", action="store_true", help="attn_kv_b, as in older files")
    given = parser.parse_args(arguments)
    path = make_header(given.path, given.preset, given.type, joined=given.joined)
    print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
