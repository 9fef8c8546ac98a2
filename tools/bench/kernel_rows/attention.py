"""Rows of `attention`: one thread's work, as a block shares it out.

absorbed    one token over cached rows of a layer, a different layer in every call; GB/s counts
            cache rows
expanded    one head's queries over its keys, a different head in every call
"""

import ctypes
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from hybrid.runtime.cache import padded_width
from kernels.attention import reference
from kernels.attention.cpu import (
    QUERIES_AT_ONCE,
    VALUE_ROW,
    AbsorbedQueries,
    CacheRows,
    ExpandedAttention,
    PartialAttention,
)
from kernels.formats import BY_NAME, BlockFormat
from kernels.native.library import library
from kernels.testing import compare
from tools.bench.kernel_rows.measure import TIERS, Contender, Group, Setup, Work, chain
from tools.bench.kernel_rows.memory import RamMemory
from tools.bench.kernel_rows.shapes import ModelShape

CACHE_FORMATS = ("F16", "BF16", "Q8_0")
EXPANDED_HEADS = 4  # that calls go through
SCALE = 0.1


def attention_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for rows in shape.contexts:
            for block_format in map(BY_NAME.__getitem__, CACHE_FORMATS):
                text = f"absorbed, {shape.heads} heads, {rows} rows"
                make = partial(_absorbed_contenders, setup, shape, block_format, rows)
                yield Group(
                    *("attention", block_format.name),
                    *(text, _cache_bytes(shape, block_format, rows) + 64, make),
                )
    lengths = {(s.nope, s.rope, s.value, s.prompts): s for s in setup.shapes.values()}
    for shape in lengths.values():
        for tokens, start in shape.prompts:
            text = f"expanded, one head, {tokens}x{start + tokens}"
            make = partial(_expanded_contenders, setup, shape, tokens, start)
            yield Group("attention", "F32", text, 0, make)


def _row_bytes(shape: ModelShape, block_format: BlockFormat) -> int:
    return block_format.row_bytes(padded_width(shape.latent + shape.rope))


def _cache_bytes(shape: ModelShape, block_format: BlockFormat, rows: int) -> int:
    layer = rows * _row_bytes(shape, block_format)
    return -(-shape.ram_bytes // layer) * layer


def _absorbed_contenders(
    setup: Setup, shape: ModelShape, block_format: BlockFormat, rows: int, memory: RamMemory
) -> Iterator[Contender]:
    width = shape.latent + shape.rope
    layer_bytes = rows * _row_bytes(shape, block_format)
    layers = _cache_bytes(shape, block_format, rows) // layer_bytes
    size = (layers * rows, padded_width(width))
    cache = memory.blocks(block_format, size).blocks
    caches = [
        CacheRows(first, cache.stride(0), block_format.ggml_id, shape.latent, shape.rope)
        for first in range(
            cache.data_ptr(), cache.data_ptr() + len(cache) * cache.stride(0), layer_bytes
        )
    ]
    for tier in setup.tiers:
        yield _absorbed(shape, caches, rows, tier)


def _absorbed(shape: ModelShape, caches: list[CacheRows], rows: int, tier: str) -> Contender:
    heads, latent, width = shape.heads, shape.latent, shape.latent + shape.rope
    q = torch.randn(1, heads, width, generator=torch.Generator().manual_seed(1))
    queries = AbsorbedQueries(q.data_ptr(), heads * width, width, 1, heads, rows, SCALE)
    padded = -(-latent // VALUE_ROW) * VALUE_ROW
    values = torch.empty(heads, 2 + padded)  # largest, sum; [heads, padded]
    largest = values.data_ptr()
    at = (largest, largest + 4 * heads, largest + 8 * heads)
    part = PartialAttention(*at, padded)
    native = library()
    room = torch.empty(native.hybrid_absorbed_scratch(width) + 16)
    scratch = room.data_ptr() + -room.data_ptr() % 64
    calls = [
        partial(
            native.hybrid_absorbed_attention,
            *(TIERS[tier], ctypes.addressof(cached), 0, rows),
            *(ctypes.addressof(queries), ctypes.addressof(part), scratch),
        )
        for cached in caches
    ]

    def error() -> float:
        calls[0]()
        out, read = torch.empty(heads, latent), torch.empty(rows, width)
        native.hybrid_join_attention(
            *(TIERS[tier], ctypes.addressof(part), 1, heads, latent, out.data_ptr(), latent)
        )
        native.hybrid_read_cache_rows(
            *(TIERS["scalar"], ctypes.addressof(caches[0]), 0, rows, read.data_ptr(), width)
        )
        split = torch.split(q.double(), [latent, shape.rope], dim=-1)
        expected = reference.absorbed_attention(*split, read.double(), SCALE, rows - 1)
        return compare(out, expected[0]).relative_error

    macs, nbytes = heads * rows * (width + latent), rows * caches[0].stride_bytes
    kept = (caches, q, queries, values, part, room)
    return Contender(Work(tier, "-", 1, 1, nbytes, macs), chain(calls), error, keeps=kept)


def _expanded_contenders(
    setup: Setup, shape: ModelShape, tokens: int, start: int, _memory: RamMemory
) -> Iterator[Contender]:
    generator = torch.Generator().manual_seed(1)
    seen, heads = start + tokens, EXPANDED_HEADS
    q = torch.randn(tokens, heads, shape.nope + shape.rope, generator=generator)
    key = torch.randn(seen, heads, shape.nope, generator=generator)
    key_rope = torch.randn(seen, shape.rope, generator=generator)
    value = torch.randn(seen, heads, shape.value, generator=generator)
    for tier in setup.tiers:
        yield _expanded((q, key, key_rope, value), start, tier)


def _expanded(inputs: tuple[Tensor, Tensor, Tensor, Tensor], start: int, tier: str) -> Contender:
    q, key, key_rope, value = inputs
    tokens, heads, key_length = q.shape
    out = torch.empty(tokens, heads, value.shape[-1])
    attention = ExpandedAttention(
        *(q.data_ptr(), *q.stride()[:2], key.data_ptr(), *key.stride()[:2]),
        *(key_rope.data_ptr(), key_rope.stride(0), value.data_ptr(), *value.stride()[:2]),
        *(out.data_ptr(), *out.stride()[:2]),
        *(key.shape[-1], key_rope.shape[-1], value.shape[-1], start, SCALE),
    )
    native = library()
    sizes = (key_length, value.shape[-1], QUERIES_AT_ONCE)
    room = torch.empty(native.hybrid_expanded_scratch(*sizes) + 16)
    scratch = room.data_ptr() + -room.data_ptr() % 64

    def run(head: int) -> None:
        for begin in range(0, tokens, QUERIES_AT_ONCE):
            native.hybrid_expanded_attention(
                *(TIERS[tier], ctypes.addressof(attention), head),
                *(begin, min(begin + QUERIES_AT_ONCE, tokens), scratch),
            )

    def error() -> float:
        run(0)
        expected = reference.expanded_attention(
            q[:, :1].double(),
            key[:, :1].double(),
            key_rope.double(),
            value[:, :1].double(),
            SCALE,
            start,
        )
        return compare(out[:, :1], expected).relative_error

    pairs = tokens * start + tokens * (tokens + 1) // 2
    work = Work(tier, "-", tokens, 1, 0, pairs * (key_length + value.shape[-1]))
    calls = [partial(run, head) for head in range(heads)]
    return Contender(work, chain(calls), error, keeps=(inputs, out, attention, room))
