"""What a block is made of, where all but its routed experts is at one home.

The loader hands a model its operations one by one, each where the plan put its weight. A device
that runs a whole block at once (`native_block.py`, `gpu/blocks.py`) reads the weights back out of
them; a block with an operation elsewhere, or of a kind that is not known here, stays as the model
built it.
"""

from dataclasses import dataclass

from torch import Tensor

from hybrid.models.deepseek import DeepseekBlock
from hybrid.models.latent import LatentAttention, LowRankQuery
from hybrid.models.moe import FeedForward, MixtureOfExperts
from hybrid.models.parts import Experts
from hybrid.runtime.ops import HeadLinearOp, LinearOp, NormOp, RouterOp, VectorOp
from kernels.blocks import BlockTensor
from kernels.latent_block import GatedWeights, LatentShape
from placement.memory.native_scratch import EXPANDED_ROWS


class NotPlain(Exception):
    """Some operation of a block is not one of its home's own."""


@dataclass(frozen=True, slots=True)
class PlainBlock:
    """The operations and matrices of one block; names as in `kernels.latent_block.LatentWeights`.

    dense     the dense feed-forward, or the shared experts as one, or None
    router    None in a dense block, as experts
    experts   wherever they are
    """

    attention: LatentAttention
    attention_norm: NormOp
    query_norm: NormOp | None
    latent_norm: NormOp
    feed_forward_norm: NormOp
    query_down: BlockTensor | None
    query: BlockTensor
    compress: BlockTensor
    key: HeadLinearOp
    key_transposed: bool
    value_up: HeadLinearOp
    output: BlockTensor
    dense: GatedWeights | None
    router: RouterOp | None
    experts: Experts | None

    @property
    def shape(self) -> LatentShape:
        config = self.attention.config
        return LatentShape(
            width=config.embedding_length,
            heads=config.heads,
            nope=config.nope,
            rope=config.rope.length,
            value=config.value,
            latent=config.latent,
            query_latent=config.query_latent,
            absorb_up_to=self.attention.absorb_up_to,
            expand_up_to=EXPANDED_ROWS,
            epsilon=config.norm_epsilon,
            score_scale=config.rope.attention_scale,
        )


def read_block(block: object) -> PlainBlock:
    """Raises NotPlain where an operation is away from home or of an unknown kind."""
    if not isinstance(block, DeepseekBlock):
        raise NotPlain
    attention = block.attention
    query_down, query_norm, query = _query(attention)
    key = attention.key_value
    dense, router, experts = _feed_forward(block.feed_forward)
    return PlainBlock(
        attention=attention,
        attention_norm=norm(block.attention_norm),
        query_norm=query_norm,
        latent_norm=norm(attention.latent_norm),
        feed_forward_norm=norm(block.feed_forward_norm),
        query_down=query_down,
        query=query,
        compress=matrix(attention.compress),
        key=_heads(key.key_weight),
        key_transposed=key.key_is_transposed,
        value_up=_heads(key.value_weight),
        output=matrix(attention.output),
        dense=dense,
        router=router,
        experts=experts,
    )


def matrix(op: object) -> BlockTensor:
    """The weight of a product at home."""
    if not isinstance(op, LinearOp):
        raise NotPlain
    return op.weight


def norm(op: object) -> NormOp:
    if not isinstance(op, NormOp):
        raise NotPlain
    return op


def values(op: NormOp | VectorOp) -> Tensor:
    """A norm's weights or a bias, float32; of F32 a view of bytes that may still be read."""
    return op.vector() if isinstance(op, NormOp) else op()


def _query(attention: LatentAttention) -> tuple[BlockTensor | None, NormOp | None, BlockTensor]:
    query = attention.query
    if isinstance(query, LowRankQuery):
        return matrix(query.down), norm(query.norm), matrix(query.up)
    return None, None, matrix(query)


def _feed_forward(
    part: object,
) -> tuple[GatedWeights | None, RouterOp | None, Experts | None]:
    if isinstance(part, FeedForward):
        return _gated(part), None, None
    if not isinstance(part, MixtureOfExperts) or not isinstance(part.router, RouterOp):
        raise NotPlain
    if not isinstance(part.router.bias, (VectorOp, type(None))):
        raise NotPlain
    shared = None if part.shared is None else _gated(part.shared)
    return shared, part.router, part.experts


def _gated(part: FeedForward) -> GatedWeights:
    return GatedWeights(matrix(part.gate), matrix(part.up), matrix(part.down))


def _heads(op: object) -> HeadLinearOp:
    if not isinstance(op, HeadLinearOp):
        raise NotPlain
    return op
