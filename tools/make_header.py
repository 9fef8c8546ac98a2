"""Write the header of a full-size DeepSeek file without its data, to plan for models one has not.

    python -m tools.make_header deepseek-r1 r1.gguf [--type Q4_K]
    hybrid plan r1.gguf --simulate CUDA0=24GiB,CUDA1=24GiB --ram 512GiB -ot exps=CPU

Names and shapes are those of the published files in llama.cpp's layout; formats are uniform
(--type for matrices whose rows it can cut, Q8_0 for the others), where published files mix them.
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


def make_header(path: str | Path, preset: str = "deepseek-r1", matrix_type: str = "Q4_K") -> Path:
    """Metadata and tensor table only: a few hundred kilobytes."""
    recipe, path = PRESETS[preset], Path(path)
    writer = gguf.GGUFWriter(path, "deepseek2")
    write_metadata(writer, recipe, preset)
    for name, shape in shapes(recipe).items():
        number = type_of(name, shape, GGMLQuantizationType[matrix_type])
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


def shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, in file order, attn_kv_b as attn_k_b and attn_v_b."""

    def matrix(*lengths: int, gain: float = 1.0) -> np.ndarray:
        return np.broadcast_to(np.float32(gain), lengths)  # a shape that takes no memory

    weights: Weights = {
        "token_embd.weight": matrix(recipe.tokens, recipe.width),
        "output_norm.weight": matrix(recipe.width),
        "output.weight": matrix(recipe.tokens, recipe.width),
    }
    for layer in range(recipe.layers):
        block = attention_weights(recipe, matrix, matrix)
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
        "--type", default="Q4_K", choices=BY_NAME, help="format of the matrices (default Q4_K)"
    )
    given = parser.parse_args(arguments)
    path = make_header(given.path, given.preset, given.type)
    print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
