"""The meaning of a block in plain torch: the reference functions of the other rooms, composed."""

import torch
from torch import Tensor

from kernels.attention.reference import absorbed_attention, expanded_attention
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.expert_ffn.reference import add_weighted, expert_rows, gated
from kernels.head_linear.reference import head_linear
from kernels.latent_block import CacheMemory, GatedWeights, LatentShape, LatentWeights
from kernels.linear import linear
from kernels.quantize.reference import quantize_q8_0
from kernels.rms_norm.reference import rms_norm
from kernels.rope.reference import rope
from kernels.router.reference import choose_experts

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def exact_product(x: Tensor, weight: BlockTensor) -> Tensor:
    return linear(x, weight, implementation="reference")


def latent_block(
    shape: LatentShape,
    weights: LatentWeights,
    hidden: Tensor,
    start: int,
    cache: CacheMemory,
    frequency: Tensor,
) -> Tensor:
    """The block's output [tokens, width]; writes the cache's new rows, `hidden` stays.

    frequency   [rope / 2] float64, radians per position; amplitude 1
    """
    x = rms_norm(hidden, weights.attention_norm, shape.epsilon)
    positions = torch.arange(start, start + len(x))
    latent, k_rope = exact_product(x, weights.compress).split([shape.latent, shape.rope], -1)
    latent = rms_norm(latent, weights.latent_norm, shape.epsilon)
    write(cache, start, torch.cat((latent, rope(k_rope, positions, frequency, 1.0)), -1))
    queries = _queries(shape, weights, x)
    q_nope, q_rope = queries.split([shape.nope, shape.rope], -1)
    q_rope = rope(q_rope, positions, frequency, 1.0)
    rows = read(cache, start + len(x), shape.latent + shape.rope)
    is_absorbed = len(x) <= shape.absorb_up_to or len(rows) > shape.expand_up_to
    attend = _absorbed if is_absorbed else _expanded
    heads = attend(shape, weights, (q_nope, q_rope), rows, start)
    hidden = hidden + exact_product(heads.flatten(-2), weights.output)
    return hidden + _feed_forward(
        weights, rms_norm(hidden, weights.feed_forward_norm, shape.epsilon)
    )


def write(cache: CacheMemory, start: int, rows: Tensor) -> None:
    """Rows [tokens, length] float32 in the cache's format, padded with zeros to whole blocks."""
    place = cache.rows[start : start + len(rows)]
    if cache.format.name in FLOATS:
        place.copy_(rows.to(FLOATS[cache.format.name]).view(torch.uint8))
        return
    columns = place.shape[1] // cache.format.block_bytes * cache.format.block_weights
    place.copy_(quantize_q8_0(torch.nn.functional.pad(rows, (0, columns - rows.shape[1]))))


def read(cache: CacheMemory, end: int, length: int) -> Tensor:
    """The first `length` values of rows 0 .. end - 1, as float32."""
    columns = cache.rows.shape[1] // cache.format.block_bytes * cache.format.block_weights
    stored = BlockTensor(cache.rows[:end], cache.format, columns)
    return dequantize(stored, implementation="reference")[:, :length].contiguous()


def _queries(shape: LatentShape, weights: LatentWeights, x: Tensor) -> Tensor:
    """[tokens, heads, nope + rope], not rotated."""
    if weights.query_down is not None:
        assert weights.query_norm is not None
        x = rms_norm(exact_product(x, weights.query_down), weights.query_norm, shape.epsilon)
    return exact_product(x, weights.query).view(len(x), shape.heads, -1)


def _absorbed(
    shape: LatentShape,
    weights: LatentWeights,
    queries: tuple[Tensor, Tensor],
    rows: Tensor,
    start: int,
) -> Tensor:
    q_latent = head_linear(queries[0], weights.key, not weights.key_transposed)
    found = absorbed_attention(q_latent, queries[1], rows, shape.score_scale, start)
    return head_linear(found, weights.value_up, transposed=False)


def _expanded(
    shape: LatentShape,
    weights: LatentWeights,
    queries: tuple[Tensor, Tensor],
    rows: Tensor,
    start: int,
) -> Tensor:
    latent, k_rope = rows.split([shape.latent, shape.rope], -1)
    k_nope = head_linear(latent[:, None], weights.key, weights.key_transposed)
    v = head_linear(latent[:, None], weights.value_up, transposed=False)
    q = torch.cat(queries, -1)
    return expanded_attention(q, k_nope, k_rope, v, shape.score_scale, start)


def _feed_forward(weights: LatentWeights, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    if weights.dense is not None:
        out += _gated(weights.dense, x)
    if weights.routed is not None:
        routed = weights.routed
        chosen, share = choose_experts(exact_product(x, routed.router), routed.bias, routed.rules)
        for gate, up, down in routed.parts:
            for rows in expert_rows(chosen, 0, routed.rules.experts):
                expert = GatedWeights(gate[rows.expert], up[rows.expert], down[rows.expert])
                add_weighted(out, _gated(expert, x[rows.tokens]), share, rows)
    return out


def _gated(weights: GatedWeights, x: Tensor) -> Tensor:
    hidden = gated(exact_product(x, weights.gate), exact_product(x, weights.up))
    return exact_product(hidden, weights.down)
