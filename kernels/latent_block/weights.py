"""Weights of one block and their shapes, checked when they are registered."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.router.rules import RouterRules


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Lengths in values; query_latent 0: queries come straight from the activations.

    absorb_up_to   tokens of a pass up to which attention is absorbed
    expand_up_to   cache rows beyond which it is absorbed for more tokens too: keys and values of
                   one head would fill a worker's memory
    score_scale    multiplies scores before the softmax
    """

    width: int
    heads: int
    nope: int
    rope: int
    value: int
    latent: int
    query_latent: int
    absorb_up_to: int
    expand_up_to: int
    epsilon: float
    score_scale: float


@dataclass(frozen=True, slots=True)
class GatedWeights:
    """A feed-forward every token goes through: gate, up [length, width], down [width, length]."""

    gate: BlockTensor
    up: BlockTensor
    down: BlockTensor


@dataclass(frozen=True, slots=True)
class RoutedWeights:
    """A router and its experts.

    router   [experts, width] blocks
    bias     [experts] float32 or None
    parts    gate, up, down [experts, ., .] of all experts: one triple, or one for each NUMA node:
             rows of gate and up, columns of down
    """

    router: BlockTensor
    bias: Tensor | None
    rules: RouterRules
    parts: tuple[tuple[BlockTensor, BlockTensor, BlockTensor], ...]


@dataclass(frozen=True, slots=True)
class LatentWeights:
    """Weights of one block, all on the CPU.

    norms             float32 [width], the query's [query_latent] or None, the latent's [latent]
    query_down        [query_latent, width] blocks or None
    query             [heads · (nope + rope), width or query_latent] blocks
    compress          [latent + rope, width] blocks
    key               [heads, latent, nope] blocks, or [heads, nope, latent]: key_transposed False
    value_up          [heads, value, latent] blocks
    output            [width, heads · value] blocks
    dense             the dense feed-forward, or the shared experts as one, or None
    routed            None in a dense block
    """

    attention_norm: Tensor
    query_norm: Tensor | None
    latent_norm: Tensor
    feed_forward_norm: Tensor
    query_down: BlockTensor | None
    query: BlockTensor
    compress: BlockTensor
    key: BlockTensor
    key_transposed: bool
    value_up: BlockTensor
    output: BlockTensor
    dense: GatedWeights | None
    routed: RoutedWeights | None


def check(shape: LatentShape, weights: LatentWeights) -> None:
    heads, latent, width = shape.heads, shape.latent, shape.width
    key = (latent, shape.nope) if weights.key_transposed else (shape.nope, latent)
    _matrix(
        "query", weights.query, (heads * (shape.nope + shape.rope), shape.query_latent or width)
    )
    _matrix("compress", weights.compress, (latent + shape.rope, width))
    _matrix("key", weights.key, (heads, *key))
    _matrix("value_up", weights.value_up, (heads, shape.value, latent))
    _matrix("output", weights.output, (width, heads * shape.value))
    _vector("attention_norm", weights.attention_norm, width)
    _vector("latent_norm", weights.latent_norm, latent)
    _vector("feed_forward_norm", weights.feed_forward_norm, width)
    if shape.query_latent:
        _matrix("query_down", weights.query_down, (shape.query_latent, width))
        _vector("query_norm", weights.query_norm, shape.query_latent)
    if weights.dense is None and weights.routed is None:
        raise KernelInputError("a block has a dense feed-forward, experts, or both")
    if weights.dense is not None:
        length = weights.dense.gate.shape[0]
        _matrix("gate", weights.dense.gate, (length, width))
        _matrix("up", weights.dense.up, (length, width))
        _matrix("down", weights.dense.down, (width, length))
    if weights.routed is not None:
        _check_routed(weights.routed, width)


def _check_routed(routed: RoutedWeights, width: int) -> None:
    count = routed.rules.experts
    _matrix("router", routed.router, (count, width))
    if routed.bias is not None:
        _vector("router bias", routed.bias, count)
    for gate, up, down in routed.parts:
        length = gate.shape[1]
        _matrix("experts' gate", gate, (count, length, width))
        _matrix("experts' up", up, (count, length, width))
        _matrix("experts' down", down, (count, width, length))


def _matrix(name: str, weight: BlockTensor | None, dimensions: tuple[int, ...]) -> None:
    if weight is None or weight.shape != dimensions or weight.device.type != "cpu":
        found = None if weight is None else (*weight.shape, weight.device)
        raise KernelInputError(f"{name} must be {dimensions} on the CPU, not {found}")


def _vector(name: str, values: Tensor | None, length: int) -> None:
    if (
        values is None
        or (values.dtype, values.device.type, tuple(values.shape))
        != (torch.float32, "cpu", (length,))
        or not values.is_contiguous()
    ):
        found = None if values is None else (values.dtype, tuple(values.shape), values.device)
        raise KernelInputError(f"{name} must be contiguous float32 [{length}], not {found}")
