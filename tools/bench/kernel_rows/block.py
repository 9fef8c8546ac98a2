"""Rows of `latent_block`: a whole block as the engine calls it, its few microseconds of Python
included.

Matrices of attention are Q8_0, as K formats do not fit a head's 128 values; shared and routed
experts are in the row's format. GB/s counts all that a token reads, cache rows too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME, BlockFormat
from kernels.latent_block import (
    BlockChain,
    CacheMemory,
    GatedWeights,
    LatentBlock,
    LatentShape,
    LatentWeights,
    Rotation,
    RoutedWeights,
)
from kernels.native import pool
from kernels.native.tiers import BEST_TIER
from kernels.rope import frequencies, rotation
from kernels.testing import compare
from placement.memory.native_scratch import EXPANDED_ROWS
from tools.bench.kernel_rows.experts import PRECISIONS, expert_bytes, make_part
from tools.bench.kernel_rows.floats import EPSILON, rules_of
from tools.bench.kernel_rows.measure import TIERS, Contender, Group, Setup, Work, chain
from tools.bench.kernel_rows.memory import RamMemory
from tools.bench.kernel_rows.shapes import ModelShape

Q8_0, F16, F32 = BY_NAME["Q8_0"], BY_NAME["F16"], BY_NAME["F32"]
NORM = 0.01  # keeps scores and gates of such weights in the range of a model's


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights, and the cache behind which tokens are placed."""

    weights: LatentWeights
    cache: CacheMemory


def latent_block_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for block_format in setup.formats:
            text = f"{shape.heads} heads, {shape.width} wide, {shape.contexts[0]} rows"
            nbytes = _layers(shape, block_format) * (_layer_bytes(setup, shape, block_format))
            make = partial(_contenders, setup, shape, block_format)
            yield Group("latent_block", block_format.name, text, nbytes, make)


def _layers(shape: ModelShape, block_format: BlockFormat) -> int:
    return -(-shape.ram_bytes // (shape.experts * expert_bytes(shape, block_format)))


def _layer_bytes(setup: Setup, shape: ModelShape, block_format: BlockFormat) -> int:
    """More than enough: 64 for each of a layer's tensors beside their bytes."""
    experts = shape.experts * expert_bytes(shape, block_format)
    shared = 3 * shape.width * shape.shared // block_format.block_weights * block_format.block_bytes
    router = F32.row_bytes(shape.width) * shape.experts
    return experts + shared + router + _attention_bytes(shape) + _cache_bytes(setup, shape) + 1024


def _cache_bytes(setup: Setup, shape: ModelShape) -> int:
    rows = shape.contexts[0] + max(setup.tokens)
    return rows * F16.row_bytes(shape.latent + shape.rope)


def _matrices(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Of attention: [rows, columns] or [heads, rows, columns]."""
    heads = shape.heads
    found: dict[str, tuple[int, ...]] = {
        "query": (heads * (shape.nope + shape.rope), shape.query_latent or shape.width),
        "compress": (shape.latent + shape.rope, shape.width),
        "key": (heads, shape.latent, shape.nope),
        "value_up": (heads, shape.value, shape.latent),
        "output": (shape.width, heads * shape.value),
    }
    if shape.query_latent:
        found["query_down"] = (shape.query_latent, shape.width)
    return found


def _attention_bytes(shape: ModelShape) -> int:
    sizes = (torch.Size(size) for size in _matrices(shape).values())
    return sum(size[:-1].numel() * Q8_0.row_bytes(size[-1]) for size in sizes)


def _make_layer(
    memory: RamMemory, setup: Setup, shape: ModelShape, block_format: BlockFormat
) -> Layer:
    matrices: dict[str, BlockTensor | None] = {"query_down": None}
    for name, size in _matrices(shape).items():
        matrices[name] = memory.blocks(Q8_0, size)
    width = shape.width
    shared = (
        memory.blocks(block_format, (shape.shared, width)),
        memory.blocks(block_format, (shape.shared, width)),
        memory.blocks(block_format, (width, shape.shared)),
    )
    router = memory.blocks(F32, (shape.experts, width))
    parts = (make_part(memory, shape, block_format),)
    weights = LatentWeights(
        attention_norm=torch.full((width,), NORM),
        query_norm=torch.full((shape.query_latent,), NORM) if shape.query_latent else None,
        latent_norm=torch.full((shape.latent,), NORM),
        feed_forward_norm=torch.full((width,), NORM),
        key_transposed=True,
        dense=GatedWeights(*shared),
        routed=RoutedWeights(router, None, rules_of(shape), parts),
        **matrices,
    )
    rows = shape.contexts[0] + max(setup.tokens)
    cached = memory.blocks(F16, (rows, shape.latent + shape.rope)).blocks
    return Layer(weights, CacheMemory(cached, F16))


def _contenders(
    setup: Setup, shape: ModelShape, block_format: BlockFormat, memory: RamMemory
) -> Iterator[Contender]:
    count = _layers(shape, block_format)
    layers = [_make_layer(memory, setup, shape, block_format) for _ in range(count)]
    for tokens in setup.tokens:
        for precision in setup.precisions:
            for tier in setup.tiers:
                passes = Passes(setup, shape, layers, tokens)
                work = Work(tier, precision, tokens, setup.threads, 0)
                if tokens == 1:
                    nbytes = _read_bytes(shape, block_format)
                    work = Work(tier, precision, tokens, setup.threads, nbytes)
                calls = passes.calls(TIERS[tier], exact=bool(PRECISIONS[precision]))
                yield Contender(work, chain(calls), partial(passes.error, calls[0]))


def _read_bytes(shape: ModelShape, block_format: BlockFormat) -> int:
    experts = shape.used * expert_bytes(shape, block_format)
    shared = 3 * shape.width * shape.shared // block_format.block_weights * block_format.block_bytes
    router = F32.row_bytes(shape.width) * shape.experts
    cache = shape.contexts[0] * F16.row_bytes(shape.latent + shape.rope)
    return experts + shared + router + _attention_bytes(shape) + cache


class Passes:
    """Passes of some tokens over layers in turn."""

    def __init__(self, setup: Setup, shape: ModelShape, layers: list[Layer], tokens: int) -> None:
        self.layers, self.start, self.threads = layers, shape.contexts[0], setup.threads
        self.shape = LatentShape(
            width=shape.width,
            heads=shape.heads,
            nope=shape.nope,
            rope=shape.rope,
            value=shape.value,
            latent=shape.latent,
            query_latent=shape.query_latent,
            absorb_up_to=8,
            expand_up_to=EXPANDED_ROWS,
            epsilon=EPSILON,
            score_scale=(shape.nope + shape.rope) ** -0.5,
        )
        self.x = torch.randn(tokens, shape.width, generator=torch.Generator().manual_seed(1))
        self.hidden = self.x.clone()
        positions = torch.arange(self.start, self.start + tokens)
        self.rotation = Rotation(*rotation(positions, frequencies(shape.rope, 1e4), 1.0))

    def calls(self, tier: int, *, exact: bool) -> list[partial[None]]:
        blocks = [
            LatentBlock(self.shape, each.weights, exact=exact, tier=tier) for each in self.layers
        ]
        seen = self.start + len(self.x)
        shared_bytes, own_bytes = blocks[0].needs(len(self.x), seen, self.threads)
        pool.reserve(own_bytes)
        workspace = torch.empty(shared_bytes + 64, dtype=torch.uint8)
        workspace = workspace[-workspace.data_ptr() % 64 :]
        return [
            partial(
                BlockChain([block], [each.cache]),
                self.hidden,
                self.start,
                self.rotation,
                workspace,
                self.threads,
            )
            for block, each in zip(blocks, self.layers, strict=True)
        ]

    def error(self, call: partial[None]) -> float:
        """Against float32 activations in the best tier, which the tests hold against the truth."""
        found = []
        for each in (call, self.calls(BEST_TIER, exact=True)[0]):
            self.hidden.copy_(self.x)
            each()
            found.append(self.hidden - self.x)
        return compare(*found).relative_error
