"""Blocks that lie wholly on the CPU, run as one native call each.

The loader hands a model its operations one by one; a block built of operations that are all at home
on the CPU is one job of the worker pool instead. `native_block` recognises such a block by what it
is made of and registers its weights; anything else (a crossing, a matrix elsewhere, experts apart)
stays as the model built it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hybrid.models.deepseek import DeepseekBlock
from hybrid.models.latent import LatentAttention, LowRankQuery
from hybrid.models.moe import FeedForward, MixtureOfExperts
from hybrid.models.parts import Block, LayerCache, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.experts import CpuExperts
from hybrid.runtime.ops import HeadLinearOp, LinearOp, NormOp, RouterOp
from kernels.blocks import BlockTensor
from kernels.latent_block import (
    GatedWeights,
    LatentBlock,
    LatentShape,
    LatentWeights,
    RoutedWeights,
    Rotation,
)
from kernels.native import pool
from kernels.rope import rotation


class NotPlain(Exception):
    """Some operation of a block is not one of this device's own."""


@dataclass(slots=True)
class Workspace:
    """What the native blocks of one engine share: memory, and the rotation of the pass at hand.

    Reserved once, for the widest pass at full context; passes follow one another.
    """

    threads: int
    memory: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    _rotation: tuple[Step, int, Rotation] | None = None

    def reserve(self, blocks: Sequence["NativeBlock"], ubatch: int, context: int) -> None:
        """Enough for every pass of 1 .. ubatch tokens whose end is at most `context`."""
        shared = own = 0
        for block in blocks:
            for tokens in {1, min(block.native.shape.absorb_up_to, ubatch, context), min(ubatch, context)}:
                for seen in {context, min(context, 16384)}:
                    needs = block.native.needs(tokens, seen, self.threads)
                    shared, own = max(shared, needs[0]), max(own, needs[1])
        self.memory = torch.zeros(shared, dtype=torch.uint8)
        pool.reserve(own)

    def rotation(self, step: Step, frequency: Tensor, amplitude: float) -> Rotation:
        known = self._rotation
        if known is None or known[0] != step or known[1] != id(frequency):
            positions = torch.arange(step.start, step.end)
            made = Rotation(*rotation(positions, frequency, amplitude))
            self._rotation = known = (step, id(frequency), made)
        return known[2]


@dataclass(frozen=True, slots=True)
class NativeBlock:
    """A block on the CPU, h [T, D] float32 -> [T, D] in place."""

    native: LatentBlock
    frequency: Tensor
    amplitude: float
    workspace: Workspace

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        assert isinstance(cache, (FloatCache, QuantisedCache))
        turn = self.workspace.rotation(step, self.frequency, self.amplitude)
        self.native(
            h, step.start, cache.memory(), turn, self.workspace.memory, self.workspace.threads
        )
        return h


def native_block(block: Block, workspace: Workspace, *, exact: bool) -> NativeBlock | None:
    """The same block as one native call; None when some of it is not plainly on the CPU."""
    if not isinstance(block, DeepseekBlock):
        return None
    try:
        weights = _weights(block)
    except NotPlain:
        return None
    attention = block.attention
    return NativeBlock(
        LatentBlock(_shape(block), weights, exact=exact),
        attention.frequency,
        attention.config.rope.amplitude,
        workspace,
    )


def _shape(block: DeepseekBlock) -> LatentShape:
    attention, config = block.attention, block.attention.config
    return LatentShape(
        width=config.embedding_length,
        heads=config.heads,
        nope=config.nope,
        rope=config.rope.length,
        value=config.value,
        latent=config.latent,
        query_latent=config.query_latent,
        absorb_up_to=attention.absorb_up_to,
        epsilon=config.norm_epsilon,
        score_scale=config.rope.attention_scale,
    )


def _weights(block: DeepseekBlock) -> LatentWeights:
    attention = block.attention
    query_down, query_norm, query = _query(attention)
    key = attention.key_value
    dense, routed = _feed_forward(block.feed_forward)
    return LatentWeights(
        attention_norm=_vector(block.attention_norm),
        query_norm=query_norm,
        latent_norm=_vector(attention.latent_norm),
        feed_forward_norm=_vector(block.feed_forward_norm),
        query_down=query_down,
        query=query,
        compress=_matrix(attention.compress),
        key=_heads(key.key_weight),
        key_transposed=key.key_is_transposed,
        value_up=_heads(key.value_weight),
        output=_matrix(attention.output),
        dense=dense,
        routed=routed,
    )


def _query(attention: LatentAttention) -> tuple[BlockTensor | None, Tensor | None, BlockTensor]:
    query = attention.query
    if isinstance(query, LowRankQuery):
        return _matrix(query.down), _vector(query.norm), _matrix(query.up)
    return None, None, _matrix(query)


def _feed_forward(part: object) -> tuple[GatedWeights | None, RoutedWeights | None]:
    if isinstance(part, FeedForward):
        return GatedWeights(_matrix(part.gate), _matrix(part.up), _matrix(part.down)), None
    if not isinstance(part, MixtureOfExperts):
        raise NotPlain
    router, experts = part.router, part.experts
    if not isinstance(router, RouterOp) or not isinstance(experts, CpuExperts):
        raise NotPlain
    held = experts.weights
    if held.first or held.count != router.rules.experts:
        raise NotPlain
    bias = router.bias() if router.bias else None
    routed = RoutedWeights(router.gate, bias, router.rules, ((held.gate, held.up, held.down),))
    shared = _feed_forward(part.shared)[0] if part.shared else None
    return shared, routed


def _matrix(op: object) -> BlockTensor:
    if not isinstance(op, LinearOp):
        raise NotPlain
    return op.weight


def _heads(op: object) -> BlockTensor:
    if not isinstance(op, HeadLinearOp):
        raise NotPlain
    return op.weight


def _vector(op: object) -> Tensor:
    if not isinstance(op, NormOp):
        raise NotPlain
    return op.vector()
