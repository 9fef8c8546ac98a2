"""Rows of `expert_ffn`: tokens that use different experts, and prompts of one expert (`product`).

Layers are made until they fill the memory asked for; a call goes to the next layer, and there to
experts that no call before used. GB/s counts the blocks of the experts that a call chose.
"""

import ctypes
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.formats import BlockFormat
from kernels.native import pool, records
from kernels.native.library import library
from kernels.testing import compare
from tools.bench.kernel_rows.measure import TIERS, Call, Contender, Group, Setup, Work, chain
from tools.bench.kernel_rows.memory import RamMemory
from tools.bench.kernel_rows.shapes import ModelShape

PRECISIONS = {"rounded": records.ROUNDED, "exact": records.EXACT}

Part = tuple[BlockTensor, BlockTensor, BlockTensor]


def ffn_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for block_format in setup.formats:
            text = f"{shape.used} of {shape.experts}, {_lengths(shape, block_format)}"
            make = partial(_ffn_contenders, setup, shape, block_format)
            yield Group(
                "expert_ffn", block_format.name, text, layers_bytes(shape, block_format), make
            )


def product_groups(setup: Setup) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for block_format in setup.formats:
            text = f"one expert, {_lengths(shape, block_format)}"
            make = partial(_product_contenders, setup, shape, block_format)
            yield Group("product", block_format.name, text, layers_bytes(shape, block_format), make)


def expert_bytes(shape: ModelShape, block_format: BlockFormat) -> int:
    length = shape.feed_forward_of(block_format)
    gate = length * block_format.row_bytes(shape.width)
    return 2 * gate + shape.width * block_format.row_bytes(length)


def layers_bytes(shape: ModelShape, block_format: BlockFormat) -> int:
    layer = shape.experts * expert_bytes(shape, block_format) + 3 * 64
    return -(-shape.ram_bytes // layer) * layer


def make_part(memory: RamMemory, shape: ModelShape, block_format: BlockFormat) -> Part:
    """Gate, up and down of a layer's experts."""
    experts, width = shape.experts, shape.width
    length = shape.feed_forward_of(block_format)
    return (
        memory.blocks(block_format, (experts, length, width)),
        memory.blocks(block_format, (experts, length, width)),
        memory.blocks(block_format, (experts, width, length)),
    )


def _make_layers(memory: RamMemory, shape: ModelShape, block_format: BlockFormat) -> list[Part]:
    layer = shape.experts * expert_bytes(shape, block_format)
    count = layers_bytes(shape, block_format) // layer
    return [make_part(memory, shape, block_format) for _ in range(count)]


def _ffn_contenders(
    setup: Setup, shape: ModelShape, block_format: BlockFormat, memory: RamMemory
) -> Iterator[Contender]:
    layers = _make_layers(memory, shape, block_format)
    for tokens in setup.tokens:
        routings = _routings(shape, tokens)
        for precision in setup.precisions:
            for tier in setup.tiers:
                calls = Calls(setup, layers, routings, tier, precision)
                yield calls.contender(shape, expert_bytes(shape, block_format))


def _product_contenders(
    setup: Setup, shape: ModelShape, block_format: BlockFormat, memory: RamMemory
) -> Iterator[Contender]:
    layers = _make_layers(memory, shape, block_format)
    for tokens in shape.product_tokens:
        routings = [torch.full((tokens, 1), expert) for expert in range(shape.experts)]
        for precision in setup.precisions:
            for tier in setup.tiers:
                calls = Calls(setup, layers, routings, tier, precision)
                yield calls.contender(shape, expert_bytes(shape, block_format))


def _routings(shape: ModelShape, tokens: int) -> list[Tensor]:
    """Chosen experts [tokens, used] of some calls; of one token, sets without a common expert."""
    generator = torch.Generator().manual_seed(tokens)
    if tokens == 1:
        order = torch.randperm(shape.experts, generator=generator)
        return list(order[: shape.experts // shape.used * shape.used].view(-1, 1, shape.used))
    drawn = torch.rand(4, tokens, shape.experts, generator=generator)
    return list(drawn.topk(shape.used).indices)


class Calls:
    """Prepared calls of `hybrid_expert_ffn`, layer after layer, and what they point to.

    routings   [tokens, used] model-wide expert numbers of each call
    """

    def __init__(
        self,
        setup: Setup,
        layers: Sequence[Part],
        routings: Sequence[Tensor],
        tier: str,
        precision: str,
    ) -> None:
        self.tier, self.precision, self.threads = tier, precision, setup.threads
        self.layers, self.routings = layers, [routing.int().contiguous() for routing in routings]
        tokens, used = routings[0].shape
        width = layers[0][0].columns
        self.x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(1))
        self.share = torch.rand(tokens, used, generator=torch.Generator().manual_seed(2)) / used
        self.out = torch.zeros(tokens, width)
        self.records = [records.experts((part,), 0, used) for part in layers]
        where = (TIERS[tier], PRECISIONS[precision])
        record = ctypes.byref(self.records[0])
        needed = library().hybrid_expert_ffn_bytes(*where, record, tokens, self.threads)
        self.workspace = torch.empty(needed + 64, dtype=torch.uint8)
        self.calls = [self._call(r, c) for c in self.routings for r in self.records]

    def contender(self, shape: ModelShape, one_expert_bytes: int) -> Contender:
        tokens, used = self.routings[0].shape
        length = self.layers[0][0].shape[1]
        chosen = [len(routing.unique()) for routing in self.routings]
        nbytes = int(sum(chosen) / len(chosen) * one_expert_bytes)
        macs = 3 * tokens * used * length * shape.width
        work = Work(self.tier, self.precision, tokens, self.threads, nbytes, macs)
        return Contender(work, chain(self.calls), self.error, keeps=self)

    def error(self) -> float:
        """Of the first call's last token: the whole of it would take the reference minutes."""
        self.out.zero_()
        pool.check(self.calls[0]() or 0)
        x, expected = self.x[-1].double(), torch.zeros(len(self.x[0]), dtype=torch.float64)
        for expert, share in zip(self.routings[0][-1].tolist(), self.share[-1], strict=True):
            gate, up, down = (dequantize(weight[expert]).double() for weight in self.layers[0])
            hidden = torch.nn.functional.silu(gate @ x) * (up @ x)
            expected += share.double() * (down @ hidden)
        return compare(self.out[-1], expected).relative_error

    def _call(self, record: records.Experts, chosen: Tensor) -> Call:
        return partial(
            library().hybrid_expert_ffn,
            TIERS[self.tier],
            PRECISIONS[self.precision],
            self.threads,
            ctypes.addressof(record),
            self.x.data_ptr(),
            len(self.x),
            chosen.data_ptr(),
            self.share.data_ptr(),
            self.out.data_ptr(),
            self.workspace.data_ptr() + -self.workspace.data_ptr() % 64,
            self.workspace.numel() - 64,
        )


def _lengths(shape: ModelShape, block_format: BlockFormat) -> str:
    return f"{shape.feed_forward_of(block_format)}x{shape.width}"
