"""Blocks that lie wholly on the CPU, run as one native call each.

The loader hands a model its operations one by one; a block built of operations that are all at home
on the CPU is one job of the worker pool instead. `NativeBlocks` recognises such a block by what it
is made of and registers its weights; anything else (a crossing, a matrix elsewhere, experts apart)
stays as the model built it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hybrid.models.deepseek import DeepseekBlock
from hybrid.models.latent import LatentAttention, LowRankQuery
from hybrid.models.moe import FeedForward, MixtureOfExperts
from hybrid.models.parts import Block, LayerCache, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.experts import CpuExperts, ExpertWeights, ShardedExperts
from hybrid.runtime.ops import HeadLinearOp, LinearOp, NormOp, RouterOp, VectorOp
from kernels.blocks import BlockTensor
from kernels.latent_block import (
    BlockChain,
    GatedWeights,
    LatentBlock,
    LatentShape,
    LatentWeights,
    Rotation,
    RoutedWeights,
)
from kernels.native import pool
from kernels.rope import rotation
from placement.machine import CPU
from placement.native_scratch import EXPANDED_ROWS


class NotPlain(Exception):
    """Some operation of a block is not one of this device's own."""


class NativeBlocks:
    """The native blocks of one engine, and what they share.

    exact     float32 activations; else rounded to eight bits
    threads   workers of the pool that a block uses

    Memory is reserved once, for the widest pass at full context; passes follow one another.
    """

    def __init__(self, *, exact: bool, threads: int) -> None:
        self.threads = threads
        self.workspace = torch.empty(0, dtype=torch.uint8)
        self._exact = exact
        self._blocks: dict[int, NativeBlock] = {}
        self._vectors: list[tuple[NormOp | VectorOp, Tensor]] = []
        self._rotation: tuple[Step, Rotation] | None = None

    def products(self, device: str) -> str | None:
        """Implementation of products on a device of the plan; None: its exact one."""
        return "rounded" if device == CPU and not self._exact else None

    def registered(self, layer: int, block: Block) -> "NativeBlock | None":
        """The same block as one native call; None when some of it is not plainly on the CPU."""
        if not isinstance(block, DeepseekBlock):
            return None
        try:
            weights = self._weights(block)
        except NotPlain:
            return None
        rope = block.attention.config.rope
        registered = LatentBlock(_shape(block), weights, exact=self._exact)
        made = NativeBlock(registered, block.attention.frequency, rope.amplitude, self)
        self._blocks[layer] = made
        return made

    def chain(self, caches: Sequence[FloatCache | QuantisedCache]) -> None:
        """Join blocks that follow one another. Each layer's cache stays where it is from now on."""
        for layer, first in self._blocks.items():
            if layer - 1 in self._blocks:
                continue
            end = layer
            while end in self._blocks:
                end += 1
            members = [self._blocks[number].native for number in range(layer, end)]
            first.chain = BlockChain(members, [cache.memory() for cache in caches[layer:end]])

    def needs(self, ubatch: int, context: int) -> tuple[int, int]:
        """Bytes of the workspace, and of each worker's scratch, that passes of 1 .. ubatch tokens
        need at most."""
        found = [(0, 0)]
        for block in self._blocks.values():
            few = block.native.shape.absorb_up_to
            for tokens in {1, min(few, ubatch, context), min(ubatch, context)}:
                for seen in {context, min(context, EXPANDED_ROWS)}:
                    found.append(block.native.needs(tokens, seen, self.threads))
        return max(shared for shared, _ in found), max(own for _, own in found)

    def reserve(self, workspace: Tensor, own_bytes: int) -> None:
        """Take the memory that `needs` asked for."""
        self.workspace = workspace
        if own_bytes:
            pool.reserve(own_bytes)

    def fill_vectors(self) -> None:
        """Decode norms that are not float32 in the file; their bytes have been read now."""
        for op, vector in self._vectors:
            vector.copy_(_values(op))

    def rotation(self, step: Step, frequency: Tensor, amplitude: float) -> Rotation:
        """Of a pass; all blocks of a model turn alike."""
        if self._rotation is None or self._rotation[0] != step:
            positions = step.positions(torch.device("cpu"))
            self._rotation = (step, Rotation(*rotation(positions, frequency, amplitude)))
        return self._rotation[1]

    def _weights(self, block: DeepseekBlock) -> LatentWeights:
        attention = block.attention
        query_down, query_norm, query = self._query(attention)
        key = attention.key_value
        dense, routed = self._feed_forward(block.feed_forward)
        return LatentWeights(
            attention_norm=self._vector(block.attention_norm),
            query_norm=query_norm,
            latent_norm=self._vector(attention.latent_norm),
            feed_forward_norm=self._vector(block.feed_forward_norm),
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

    def _query(
        self, attention: LatentAttention
    ) -> tuple[BlockTensor | None, Tensor | None, BlockTensor]:
        query = attention.query
        if isinstance(query, LowRankQuery):
            return _matrix(query.down), self._vector(query.norm), _matrix(query.up)
        return None, None, _matrix(query)

    def _feed_forward(self, part: object) -> tuple[GatedWeights | None, RoutedWeights | None]:
        if isinstance(part, FeedForward):
            return GatedWeights(_matrix(part.gate), _matrix(part.up), _matrix(part.down)), None
        if not isinstance(part, MixtureOfExperts):
            raise NotPlain
        router, experts = part.router, part.experts
        if not isinstance(router, RouterOp):
            raise NotPlain
        parts = _parts(experts)
        if parts[0].first or parts[0].count != router.rules.experts:
            raise NotPlain
        bias = None if router.bias is None else self._vector(router.bias)
        routed = RoutedWeights(
            router.gate,
            bias,
            router.rules,
            tuple((part.gate, part.up, part.down) for part in parts),
        )
        shared = None if part.shared is None else self._feed_forward(part.shared)[0]
        return shared, routed

    def _vector(self, op: object) -> Tensor:
        if not isinstance(op, (NormOp, VectorOp)):
            raise NotPlain
        if op.weight.format.name == "F32":
            return _values(op)  # a view of bytes that may still be read
        vector = torch.empty(op.weight.columns)
        self._vectors.append((op, vector))
        return vector


class NativeBlock:
    """A block on the CPU, h [T, D] float32 -> [T, D]; writes over h.

    The first of several that follow one another runs them all; the others find their work done.
    """

    def __init__(
        self, native: LatentBlock, frequency: Tensor, amplitude: float, shared: NativeBlocks
    ) -> None:
        self.native = native
        self.chain: BlockChain | None = None  # of the blocks that start here
        self._frequency = frequency
        self._amplitude = amplitude
        self._shared = shared

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        if self.chain is not None:
            shared = self._shared
            turn = shared.rotation(step, self._frequency, self._amplitude)
            self.chain(h, step.start, turn, shared.workspace, shared.threads)
        return h


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
        expand_up_to=EXPANDED_ROWS,
        epsilon=config.norm_epsilon,
        score_scale=config.rope.attention_scale,
    )


def _parts(experts: object) -> tuple[ExpertWeights, ...]:
    if isinstance(experts, CpuExperts):
        return (experts.weights,)
    if isinstance(experts, ShardedExperts):
        return experts.parts
    raise NotPlain


def _matrix(op: object) -> BlockTensor:
    if not isinstance(op, LinearOp):
        raise NotPlain
    return op.weight


def _heads(op: object) -> BlockTensor:
    if not isinstance(op, HeadLinearOp):
        raise NotPlain
    return op.weight


def _values(op: NormOp | VectorOp) -> Tensor:
    return op.vector() if isinstance(op, NormOp) else op()
