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
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.formats import BlockFormat
from kernels.latent_block.weights import (
    GatedWeights,
    LatentShape,
    LatentWeights,
    RoutedWeights,
    check,
)
from kernels.native import pool, records, tiers
from kernels.native.library import library

__all__ = [
    "BlockChain",
    "CacheMemory",
    "GatedWeights",
    "LatentBlock",
    "LatentShape",
    "LatentWeights",
    "RoutedWeights",
    "Rotation",
    "Watched",
]

# Longer passes go block by block: Ctrl-C is heard between calls, and a call costs them nothing.
AT_ONCE_TOKENS = 16
INT64_BYTES = 8


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


class Watched:
    """What a pass over a chain of blocks leaves behind of itself.

    marks   int64 [2 * blocks + 1], ns of a clock: the beginning, then after each block's attention
            and after its feed-forward
    usage   int64 [blocks, experts]: + 1 for each token that chose the expert
    """

    def __init__(self, blocks: int, experts: int) -> None:
        self.marks = torch.zeros(2 * blocks + 1, dtype=torch.int64)
        self.usage = torch.zeros(blocks, experts, dtype=torch.int64)
        self._experts = experts
        self._marks_at, self._usage_at = self.marks.data_ptr(), self.usage.data_ptr()

    def fill(self, record: records.BlockPass, first: int) -> None:
        """By the next call over blocks from `first` on."""
        experts = self._experts
        record.marks = self._marks_at + 2 * first * INT64_BYTES
        record.usage = self._usage_at + first * experts * INT64_BYTES
        record.usage_experts = experts


class LatentBlock:
    """Weights registered for `hybrid_latent_blocks`.

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
        check(shape, weights)
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
        self._width = first.shape.width
        self._rows = min(len(cache.rows) for cache in caches)
        self._blocks = (ctypes.c_void_p * len(blocks))(*(b.address for b in blocks))
        self._caches = (records.CacheRows * len(blocks))(
            *(_cache_rows(b.shape, c) for b, c in zip(blocks, caches, strict=True))
        )
        self._pass = records.BlockPass(tier=first.tier, precision=first.precision)

    def __call__(
        self,
        hidden: Tensor,
        start: int,
        rotation: Rotation,
        workspace: Tensor,
        threads: int,
        watched: Watched | None = None,
    ) -> None:
        """One pass, in place.

        hidden      [tokens, width] float32, contiguous; replaced by the last block's output
        start       position of the first token: cache rows before it are read, its own written
        workspace   uint8, at least `needs` bytes of each block
        threads     workers of the pool, 0: all
        watched     filled, of this chain's blocks; None: nobody asks

        Raises KernelInputError when shapes do not fit, WorkerFailed when a worker fails: hidden and
        the new cache rows are undefined then.
        """
        tokens = hidden.shape[0]
        self._check_pass(hidden, start + tokens, rotation)
        record = self._pass
        record.hidden = hidden.data_ptr()
        record.cosine = rotation.cosine.data_ptr()
        record.sine = rotation.sine.data_ptr()
        record.tokens = tokens
        record.start = start
        record.threads = threads
        record.workspace = workspace.data_ptr()
        record.workspace_bytes = workspace.numel()
        record.marks = record.usage = None
        at_once = self._count if tokens < AT_ONCE_TOKENS else 1
        for first in range(0, self._count, at_once):
            if watched is not None:
                watched.fill(record, first)
            pool.run(
                library().hybrid_latent_blocks,
                ctypes.byref(self._blocks, first * ctypes.sizeof(ctypes.c_void_p)),
                ctypes.byref(self._caches, first * ctypes.sizeof(records.CacheRows)),
                at_once,
                ctypes.byref(record),
            )

    def _check_pass(self, hidden: Tensor, end: int, rotation: Rotation) -> None:
        tokens = hidden.shape[0]
        if hidden.shape[1] != self._width or hidden.dtype != torch.float32:
            raise KernelInputError(f"hidden must be float32 [tokens, {self._width}]")
        if not hidden.is_contiguous() or tokens == 0 or end < tokens:
            raise KernelInputError(f"hidden must be contiguous, with tokens: {tuple(hidden.shape)}")
        if end > self._rows:
            raise KernelInputError(f"positions up to {end} do not fit {self._rows} cache rows")
        if rotation.cosine.shape[0] < tokens or rotation.sine.shape[0] < tokens:
            raise KernelInputError(f"{tokens} tokens need as many rows of cos and sin")


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
        **asdict(shape),  # fields of the same names
        key_transposed=int(weights.key_transposed),
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
