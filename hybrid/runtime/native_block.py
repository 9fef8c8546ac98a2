"""Blocks that lie wholly on the CPU, run as one native call each.

The loader hands a model its operations one by one; a block built of operations that are all at home
on the CPU is one job of the worker pool instead. `NativeBlocks` recognises such a block by what it
is made of and registers its weights; anything else (a crossing, a matrix elsewhere, experts apart)
stays as the model built it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hybrid.models.parts import Block, Experts, LayerCache, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.experts import expert_parts
from hybrid.runtime.native_watch import ChainWatch
from hybrid.runtime.ops import NormOp, RouterOp, VectorOp
from hybrid.runtime.plain_block import NotPlain, PlainBlock, read_block, values
from hybrid.runtime.stats import Meter
from kernels.latent_block import (
    BlockChain,
    LatentBlock,
    LatentWeights,
    Rotation,
    RoutedWeights,
)
from kernels.native import pool
from kernels.rope import rotation
from placement.machines.machine import CPU
from placement.memory.native_scratch import EXPANDED_ROWS


class NativeBlocks:
    """The native blocks of one engine, and what they share.

    exact     float32 activations; else rounded to eight bits
    threads   workers of the pool that a block uses
    meter     knows whether somebody wants a pass measured

    Memory is reserved once, for the widest pass at full context; passes follow one another.
    """

    def __init__(self, *, exact: bool, threads: int, meter: Meter) -> None:
        self.threads = threads
        self.meter = meter
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
        try:
            plain = read_block(block)
            weights = self._weights(plain)
        except NotPlain:
            return None
        rope = plain.attention.config.rope
        registered = LatentBlock(plain.shape, weights, exact=self._exact)
        made = NativeBlock(registered, plain.attention.frequency, rope.amplitude, self)
        made.experts = 0 if plain.router is None else plain.router.rules.experts
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
            members = [self._blocks[number] for number in range(layer, end)]
            memories = [cache.memory() for cache in caches[layer:end]]
            first.chain = BlockChain([each.native for each in members], memories)
            first.watch = ChainWatch(layer, [each.experts for each in members])

    def usage(self) -> dict[int, list[int]]:
        """How often experts of blocks here were chosen while somebody listened: all tokens."""
        watches = [block.watch for block in self._blocks.values() if block.watch is not None]
        return {layer: counts for watch in watches for layer, counts in watch.usage().items()}

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
            vector.copy_(values(op))

    def rotation(self, step: Step, frequency: Tensor, amplitude: float) -> Rotation:
        """Of a pass; all blocks of a model turn alike."""
        if self._rotation is None or self._rotation[0] != step:
            positions = step.positions(torch.device("cpu"))
            self._rotation = (step, Rotation(*rotation(positions, frequency, amplitude)))
        return self._rotation[1]

    def _weights(self, block: PlainBlock) -> LatentWeights:
        query_norm = None if block.query_norm is None else self._vector(block.query_norm)
        return LatentWeights(
            attention_norm=self._vector(block.attention_norm),
            query_norm=query_norm,
            latent_norm=self._vector(block.latent_norm),
            feed_forward_norm=self._vector(block.feed_forward_norm),
            query_down=block.query_down,
            query=block.query,
            compress=block.compress,
            key=block.key.weight,
            key_transposed=block.key_transposed,
            value_up=block.value_up.weight,
            output=block.output,
            dense=block.dense,
            routed=None if block.router is None else self._routed(block.router, block.experts),
        )

    def _routed(self, router: RouterOp, experts: Experts | None) -> RoutedWeights:
        parts = expert_parts(experts)
        if not parts or parts[0].first or parts[0].count != router.rules.experts:
            raise NotPlain
        bias = None if router.bias is None else self._vector(router.bias)
        matrices = tuple((part.gate, part.up, part.down) for part in parts)
        return RoutedWeights(router.gate, bias, router.rules, matrices)

    def _vector(self, op: object) -> Tensor:
        if not isinstance(op, (NormOp, VectorOp)):
            raise NotPlain
        if op.weight.format.name == "F32":
            return values(op)  # a view of bytes that may still be read
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
        self.watch: ChainWatch | None = None  # of the same
        self.experts = 0  # routed ones
        self._frequency = frequency
        self._amplitude = amplitude
        self._shared = shared

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        if self.chain is not None:
            shared = self._shared
            turn = shared.rotation(step, self._frequency, self._amplitude)
            watched = self.watch.watched if self.watch and shared.meter.counts else None
            self.chain(h, step.start, turn, shared.workspace, shared.threads, watched)
            if self.watch is not None and shared.meter.ledger is not None:
                shared.meter.ledger.later(self.watch.tell)
        return h
