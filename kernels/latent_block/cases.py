"""Blocks, passes and allowed errors of `LatentBlock`, one truth for test and bench."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import HALVES_AT, PLAIN, like_weights
from kernels.formats import BY_NAME
from kernels.latent_block import (
    CacheMemory,
    GatedWeights,
    LatentShape,
    LatentWeights,
    Rotation,
    RoutedWeights,
)
from kernels.rope import frequencies, rotation
from kernels.router.rules import Gating, RouterRules

# Of the output, by format of the cache: sums in another order can move a value to the next number
# that the cache can hold.
RELATIVE_ERROR = {"F32": 1e-5, "F16": 2e-4, "BF16": 1e-3, "Q8_0": 1e-3}
ROUNDED_ERROR = 0.02  # activations in eight bits, through all products of a block
TIER_ERROR = {True: 1e-5, False: 2e-3}  # exact, rounded: a value may round to the next number
TILES_ERROR = 1.5e-2  # rounded, where tiles multiply in bf16: all of what eight bits err by
PASSES = [(1, 0), (1, 37), (2, 37), (9, 0), (40, 0), (40, 37)]  # tokens, start


@dataclass(frozen=True, slots=True)
class Case:
    """One block; lengths in values.

    dense   length of the dense feed-forward, or of the shared experts; 0: there is none
    rules   of the router; None in a dense block
    """

    format: str
    heads: int
    width: int
    nope: int
    rope: int
    value: int
    latent: int
    query_latent: int
    key_transposed: bool
    dense: int = 0
    rules: RouterRules | None = None
    expert: int = 0
    biased: bool = False
    absorb_up_to: int = 8
    expand_up_to: int = 4096


SMALL = {
    "plain floats, dense": Case("F32", 1, 33, 5, 6, 7, 13, 0, False, dense=17),
    "plain floats, routed, low-rank query": Case(
        "F32", 3, 45, 9, 2, 5, 19, 11, True, rules=RouterRules(5, 2, Gating.SOFTMAX), expert=35
    ),
    "Q8_0, dense, low-rank query": Case("Q8_0", 3, 96, 32, 10, 32, 96, 32, True, dense=160),
    "Q8_0, routed by groups, shared": Case(
        "Q8_0",
        3,
        160,
        96,
        6,
        32,
        32,
        0,
        False,
        dense=64,
        rules=RouterRules(12, 4, Gating.SIGMOID, 4, 2, normalise=True, scale=2.5),
        expert=96,
        biased=True,
    ),
    "Q8_0, always absorbed": Case(
        "Q8_0", 3, 96, 32, 4, 64, 64, 0, True, dense=32, absorb_up_to=1 << 20
    ),
    "Q4_K, routed, shared": Case(
        "Q4_K",
        1,
        256,
        256,
        64,
        256,
        256,
        256,
        True,
        dense=256,
        rules=RouterRules(6, 3, Gating.SIGMOID, normalise=True),
        expert=256,
        biased=True,
    ),
    "Q4_K, dense, key as in the joined matrix": Case(
        "Q4_K", 3, 256, 256, 2, 256, 256, 0, False, dense=512
    ),
}


def shape_of(case: Case) -> LatentShape:
    return LatentShape(
        width=case.width,
        heads=case.heads,
        nope=case.nope,
        rope=case.rope,
        value=case.value,
        latent=case.latent,
        query_latent=case.query_latent,
        absorb_up_to=case.absorb_up_to,
        expand_up_to=case.expand_up_to,
        epsilon=1e-6,
        score_scale=1 / math.sqrt(case.nope + case.rope),
    )


def weights_of(case: Case, *, settled: bool = False) -> LatentWeights:
    """Random weights that keep the size of what they multiply.

    settled   the bias decides alone which experts are chosen: rounding cannot change it
    """
    made = _Maker(case.format)
    query_from = case.query_latent or case.width
    key = (case.latent, case.nope) if case.key_transposed else (case.nope, case.latent)
    low = case.query_latent
    return LatentWeights(
        attention_norm=made.norm(case.width),
        query_norm=made.norm(low) if low else None,
        latent_norm=made.norm(case.latent),
        feed_forward_norm=made.norm(case.width),
        query_down=made.blocks(low, case.width) if low else None,
        query=made.blocks(case.heads * (case.nope + case.rope), query_from),
        compress=made.blocks(case.latent + case.rope, case.width),
        key=made.blocks(case.heads, *key),
        key_transposed=case.key_transposed,
        value_up=made.blocks(case.heads, case.value, case.latent),
        output=made.blocks(case.width, case.heads * case.value),
        dense=GatedWeights(*made.triple(case.dense, case.width)) if case.dense else None,
        routed=_routed(case, made, settled) if case.rules else None,
    )


def cache_of(case: Case, format_name: str, rows: int) -> CacheMemory:
    """Rows of NaN, in whole blocks."""
    known, length = BY_NAME[format_name], case.latent + case.rope
    columns = -(-length // known.block_weights) * known.block_weights
    return CacheMemory(torch.full((rows, known.row_bytes(columns)), 0xFF).byte(), known)


def hidden_of(case: Case, tokens: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, case.width, generator=torch.Generator().manual_seed(seed + tokens))


def frequency_of(case: Case) -> Tensor:
    return frequencies(case.rope, 10_000.0)


def rotation_of(case: Case, tokens: int, start: int) -> Rotation:
    return Rotation(*rotation(torch.arange(start, start + tokens), frequency_of(case), 1.0))


def _routed(case: Case, made: "_Maker", settled: bool) -> RoutedWeights:
    rules = case.rules
    assert rules is not None
    bias = torch.randn(rules.experts, generator=made.random) * 0.1 if case.biased else None
    if settled:
        bias = torch.randperm(rules.experts, generator=made.random) * 3.0
    return RoutedWeights(
        router=_Maker("F32").blocks(rules.experts, case.width),
        bias=bias,
        rules=rules,
        parts=(made.triple(case.expert, case.width, rules.experts),),
    )


class _Maker:
    """Weights of one format, each other than the one before."""

    def __init__(self, format_name: str) -> None:
        self.format = BY_NAME[format_name]
        self.random = torch.Generator().manual_seed(3)
        self._seed = 0

    def blocks(self, *shape: int) -> BlockTensor:
        """Blocks whose rows have norm 1 or so."""
        self._seed += 1
        weight = like_weights(self.format, shape, self._seed)
        wanted = 1 / (float(dequantize(weight).square().mean().sqrt()) * math.sqrt(shape[-1]))
        if self.format.name in PLAIN:
            weight.blocks.view(PLAIN[self.format.name]).mul_(wanted)
        blocks = weight.blocks.view(-1, self.format.block_bytes)
        for at in HALVES_AT.get(self.format.name, ()):
            scales = blocks[:, at : at + 2].contiguous().view(torch.float16)
            blocks[:, at : at + 2] = (scales * wanted).view(torch.uint8)
        return weight

    def triple(
        self, length: int, width: int, *experts: int
    ) -> tuple[BlockTensor, BlockTensor, BlockTensor]:
        """Gate, up and down."""
        gate, up = (self.blocks(*experts, length, width) for _ in range(2))
        return gate, up, self.blocks(*experts, width, length)

    def norm(self, length: int) -> Tensor:
        return 1 + 0.2 * torch.randn(length, generator=self.random)
