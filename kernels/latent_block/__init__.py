"""Contract: one transformer block with multi-head latent attention, on the CPU, in one native call.

    h += attention(norm(h))
    h += feed_forward(norm(h))        dense, or routed experts and a shared one

Attention is absorbed for few tokens, expanded for many (`kernels.attention`); the feed-forwards are
those of `kernels.expert_ffn`. The weights are registered once, as a record of addresses; a call
passes pointers. All workers of the pool go through the block together, a barrier between two
phases; blocks that follow one another are one call (`BlockChain`), so a decode step on the CPU is
one call for all of them.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.formats import BlockFormat
from kernels.native import pool, records, tiers
from kernels.native.library import library
from kernels.router import RouterRules

MOST_EXPANDED_ROWS = 16384  # kExpandedRows of block.h: beyond, attention stays absorbed

# Longer passes go block by block: Ctrl-C is heard between calls, and a call costs them nothing.
AT_ONCE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Lengths in values; query_latent 0: queries come straight from the activations.

    absorb_up_to   tokens of a pass up to which attention is absorbed
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


@dataclass(frozen=True, slots=True)
class CacheMemory:
    """Cache rows of one layer: bytes [rows, row bytes], latent and then rotated key in each.

    format   F32, F16, BF16, or Q8_0 with rows padded to whole blocks
    """

    rows: Tensor
    format: BlockFormat


@dataclass(frozen=True, slots=True)
class Rotation:
    """cos and sin [tokens, rope / 2] float32 of the positions of a pass, times the amplitude."""

    cosine: Tensor
    sine: Tensor


class LatentBlock:
    """Weights registered for `hybrid_latent_block`.

    exact   float32 activations; else they are rounded to eight bits as ggml does
    tier    of vector code, tier.h; None: the one in use (`kernels.native.tiers`)
    """

    def __init__(
        self,
        shape: LatentShape,
        weights: LatentWeights,
        *,
        exact: bool = False,
        tier: int | None = None,
    ) -> None:
        _check(shape, weights)
        self.shape = shape
        self._weights = weights  # keeps what the record points to
        self._record = _record(shape, weights)
        self.precision = records.EXACT if exact else records.ROUNDED
        self.tier = tiers.current() if tier is None else tier

    @property
    def address(self) -> int:
        """Of the record, which lives as long as this object."""
        return ctypes.addressof(self._record)

    def needs(self, tokens: int, seen: int, threads: int) -> tuple[int, int]:
        """Bytes that a pass of `tokens` tokens needs at most, when the cache then has `seen` rows:
        of the workspace, and of each worker's scratch (`pool.reserve`)."""
        found = records.BlockNeeds()
        library().hybrid_latent_block_needs(
            ctypes.byref(self._record),
            self.tier,
            self.precision,
            tokens,
            seen,
            threads,
            ctypes.byref(found),
        )
        return found.shared_bytes, found.own_bytes


class BlockChain:
    """Blocks that follow one another, each with its cache: one job of the pool for all of them.

    blocks   of one precision and tier
    caches   the memory of each, which stays where it is
    """

    def __init__(self, blocks: Sequence[LatentBlock], caches: Sequence[CacheMemory]) -> None:
        if not blocks or len(blocks) != len(caches):
            raise KernelInputError(f"{len(blocks)} blocks and {len(caches)} caches are no chain")
        first = blocks[0]
        if any((b.precision, b.tier) != (first.precision, first.tier) for b in blocks):
            raise KernelInputError("blocks of a chain must have one precision and one tier")
        self._kept = (tuple(blocks), tuple(caches))  # what the records point to
        self._count = len(blocks)
        self._blocks = (ctypes.c_void_p * len(blocks))(*(b.address for b in blocks))
        self._caches = (records.CacheRows * len(blocks))(
            *(_cache_rows(b.shape, c) for b, c in zip(blocks, caches, strict=True))
        )
        self._pass = records.BlockPass(tier=first.tier, precision=first.precision)

    def __call__(
        self, hidden: Tensor, start: int, rotation: Rotation, workspace: Tensor, threads: int
    ) -> None:
        """One pass, in place.

        hidden      [tokens, width] float32, contiguous; replaced by the last block's output
        start       position of the first token: cache rows before it are read, its own written
        workspace   uint8, at least `needs` bytes of each block
        threads     workers of the pool, 0: all

        Raises WorkerFailed when a worker fails: hidden and the new cache rows are undefined then.
        """
        record = self._pass
        record.hidden = hidden.data_ptr()
        record.cosine = rotation.cosine.data_ptr()
        record.sine = rotation.sine.data_ptr()
        record.tokens = hidden.shape[0]
        record.start = start
        record.threads = threads
        record.workspace = workspace.data_ptr()
        record.workspace_bytes = workspace.numel()
        at_once = self._count if hidden.shape[0] < AT_ONCE_TOKENS else 1
        for first in range(0, self._count, at_once):
            pool.run(
                library().hybrid_latent_blocks,
                ctypes.byref(self._blocks, first * ctypes.sizeof(ctypes.c_void_p)),
                ctypes.byref(self._caches, first * ctypes.sizeof(records.CacheRows)),
                at_once,
                ctypes.byref(record),
            )


def _cache_rows(shape: LatentShape, cache: CacheMemory) -> records.CacheRows:
    return records.CacheRows(
        cache.rows.data_ptr(),
        cache.rows.stride(0),
        cache.format.ggml_id,
        shape.latent,
        shape.rope,
    )


def _record(shape: LatentShape, weights: LatentWeights) -> records.LatentBlock:
    dense, routed = weights.dense, weights.routed
    record = records.LatentBlock(
        width=shape.width,
        heads=shape.heads,
        nope=shape.nope,
        rope=shape.rope,
        value=shape.value,
        latent=shape.latent,
        query_latent=shape.query_latent,
        key_transposed=int(weights.key_transposed),
        absorb_up_to=shape.absorb_up_to,
        epsilon=shape.epsilon,
        score_scale=shape.score_scale,
        attention_norm=records.address(weights.attention_norm),
        query_norm=records.address(weights.query_norm),
        latent_norm=records.address(weights.latent_norm),
        feed_forward_norm=records.address(weights.feed_forward_norm),
        query_down=records.matrix(weights.query_down),
        query=records.matrix(weights.query),
        compress=records.matrix(weights.compress),
        output=records.matrix(weights.output),
        key=records.head_matrices(weights.key),
        value_up=records.head_matrices(weights.value_up),
    )
    if dense is not None:
        record.gate = records.matrix(dense.gate)
        record.up = records.matrix(dense.up)
        record.down = records.matrix(dense.down)
    if routed is not None:
        record.router = records.matrix(routed.router)
        record.router_bias = records.address(routed.bias)
        record.rules = records.router_rules(routed.rules)
        record.experts = records.experts(routed.parts, 0, routed.rules.used)
    return record


def _check(shape: LatentShape, weights: LatentWeights) -> None:
    heads, latent = shape.heads, shape.latent
    query_from = shape.query_latent or shape.width
    key = (latent, shape.nope) if weights.key_transposed else (shape.nope, latent)
    expected = {
        "query": (heads * (shape.nope + shape.rope), query_from),
        "compress": (latent + shape.rope, shape.width),
        "key": (heads, *key),
        "value_up": (heads, shape.value, latent),
        "output": (shape.width, heads * shape.value),
    }
    if shape.query_latent:
        expected["query_down"] = (shape.query_latent, shape.width)
    for name, dimensions in expected.items():
        weight = getattr(weights, name)
        if weight is None or weight.shape != dimensions or weight.device.type != "cpu":
            found = None if weight is None else (*weight.shape, weight.device)
            raise KernelInputError(f"{name} must be {dimensions} on the CPU, not {found}")
    if weights.dense is None and weights.routed is None:
        raise KernelInputError("a block has a dense feed-forward, experts, or both")
    for norm in (weights.attention_norm, weights.latent_norm, weights.feed_forward_norm):
        if norm.dtype != torch.float32 or norm.device.type != "cpu" or not norm.is_contiguous():
            raise KernelInputError(f"norms must be contiguous float32, not {norm.dtype}")
