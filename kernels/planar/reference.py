"""Blocks to planes and back in torch ops, on any device, a piece at a time.

A function `field(blocks [n, block_bytes]) -> [n, k] uint8` gives a plane's bytes of each block.
Fields only move bits, and each bit stands in one of them: that makes the way back derivable.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize.reference_k import fifth_bits, nibble_runs, pairs
from kernels.dequantize.reference_small import bits
from kernels.formats import BY_NAME, BlockFormat

# Temporaries are a byte per weight and a few copies of that.
PIECE_BYTES = 1 << 26
PIECE_WEIGHTS = PIECE_BYTES // 16

Field = Callable[[Tensor], Tensor]


def at(begin: int, end: int) -> Field:
    """Bytes as they are."""
    return lambda blocks: blocks[:, begin:end]


def n4(numbers: Field) -> Field:
    """Low four bits, weights 0-15 of each 32 below 16-31."""

    def pack(blocks: Tensor) -> Tensor:
        halves = (numbers(blocks) & 15).view(len(blocks), -1, 2, 16)
        return (halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1)

    return pack


def table4(begin: int, end: int) -> Field:
    """Four bits that stand for numbers of a table, of each 32 weights in 16 bytes: weights
    0-3, 16-19, 4-7, 20-23, .., two to a byte. The file keeps 0-15 below 16-31.
    """

    def pack(blocks: Tensor) -> Tensor:
        fours = blocks[:, begin:end].reshape(len(blocks), -1, 4, 4)
        halves = torch.stack((fours & 15, fours >> 4), dim=3)
        return (halves[..., 0::2] | halves[..., 1::2] << 4).flatten(1)

    return pack


def n2(numbers: Field, shift: int) -> Field:
    """Two bits from `shift` on: fours of weights, one byte each, four fours above one another."""

    def pack(blocks: Tensor) -> Tensor:
        fours = (numbers(blocks) >> shift & 3).view(len(blocks), -1, 4, 4)
        return _above_one_another(fours, 2).flatten(1)

    return pack


def n1(numbers: Field) -> Field:
    """One bit each, which `numbers` gives as 0 or 1: eight fours above one another."""

    def pack(blocks: Tensor) -> Tensor:
        return _above_one_another(numbers(blocks).view(len(blocks), -1, 8, 4), 1).flatten(1)

    return pack


def _above_one_another(fours: Tensor, width: int) -> Tensor:
    packed = fours[:, :, 0].clone()
    for place in range(1, fours.shape[2]):
        packed |= fours[:, :, place] << width * place
    return packed


def headers_of_k(blocks: Tensor) -> Tensor:
    """Q4_K, Q5_K: d, dmin; eight bytes of scale | minimum << 4; eight nibbles of their high bits.

    The file keeps two numbers of six bits for each 32 weights as 4 + 4 bytes and 4 of nibbles.
    """
    scales, minima, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    low = torch.cat((scales & 15 | (minima & 15) << 4, rest), dim=1)
    high = torch.cat(
        (scales >> 4 & 3 | (minima >> 4 & 3) << 2, scales >> 6 | minima >> 6 << 2), dim=1
    )
    return torch.cat((blocks[:, 0:4], low, high[:, 0::2] | high[:, 1::2] << 4), dim=1)


def low_scales_of_q3(blocks: Tensor) -> Tensor:
    """Low nibbles of sixteen scales, two to a byte; the file keeps scale i and i + 8 together."""
    low = nibble_runs(blocks[:, 96:104], 8)
    return low[:, 0::2] | low[:, 1::2] << 4


def high_scales_of_q3(blocks: Tensor) -> Tensor:
    """The two bits above, four scales to a byte."""
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device).view(4, 1)
    high = (blocks[:, 104:108].unsqueeze(1) >> shifts & 3).view(len(blocks), 4, 4)
    return high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6


def _runs(begin: int, end: int, run: int) -> Field:
    return lambda blocks: nibble_runs(blocks[:, begin:end], run)


def _pairs(begin: int, end: int) -> Field:
    return lambda blocks: pairs(blocks[:, begin:end])


def _fifths(begin: int, end: int) -> Field:
    return lambda blocks: fifth_bits(blocks[:, begin:end])


def _bits(begin: int, end: int) -> Field:
    return lambda blocks: bits(blocks[:, begin:end])


# In falling alignment, so that a plane begins aligned however many blocks there are.
PLANES: dict[str, tuple[Field, ...]] = {
    "F32": (at(0, 4),),
    "F16": (at(0, 2),),
    "BF16": (at(0, 2),),
    "Q4_0": (at(2, 18), at(0, 2)),
    "Q4_1": (at(4, 20), at(0, 4)),
    "Q5_0": (at(6, 22), n1(_bits(2, 6)), at(0, 2)),
    "Q5_1": (at(8, 24), n1(_bits(4, 8)), at(0, 4)),
    "Q8_0": (at(2, 18), at(18, 34), at(0, 2)),
    "IQ4_NL": (table4(2, 18), at(0, 2)),
    "MXFP4": (table4(1, 17), at(0, 1)),
    "Q2_K": (n2(_pairs(16, 80), 0), at(0, 16), at(80, 84)),
    "Q3_K": (
        n2(_pairs(32, 96), 0),
        n1(_fifths(0, 32)),
        low_scales_of_q3,
        high_scales_of_q3,
        at(108, 110),
    ),
    "Q4_K": (n4(_runs(16, 144, 32)), headers_of_k),
    "Q5_K": (n4(_runs(48, 176, 32)), n1(_fifths(16, 48)), headers_of_k),
    "Q6_K": (n4(_runs(0, 128, 64)), n2(_pairs(128, 192), 0), at(192, 208), at(208, 210)),
    "IQ4_XS": (table4(8, 136), at(0, 8)),
    "IQ2_XXS": (at(2, 66), at(0, 2)),
    "IQ2_XS": (at(2, 66), at(66, 74), at(0, 2)),
    "IQ2_S": (at(2, 34), at(34, 66), at(66, 74), at(74, 82), at(0, 2)),
    "IQ3_XXS": (at(2, 66), at(66, 98), at(0, 2)),
    "IQ3_S": (at(2, 66), n1(_bits(74, 106)), at(66, 74), at(106, 110), at(0, 2)),
    "IQ1_S": (at(2, 34), at(34, 50), at(0, 2)),
    "IQ1_M": (at(0, 32), at(32, 48), at(48, 56)),
    "TQ1_0": (at(0, 16), at(16, 32), at(32, 48), at(48, 52), at(52, 54)),
    "TQ2_0": (n2(_pairs(0, 64), 0), at(64, 66)),
}


def split_into(weight: BlockTensor, data: Tensor, first_row: int = 0) -> None:
    """Lays out the weight's rows as rows first_row, ... of all whose planes `data` holds."""
    known, rows = weight.format, weight.blocks.flatten(0, -2)
    per_row = weight.columns // known.block_weights
    planes = _planes(data, known, data.numel() // known.block_bytes)
    step = max(1, PIECE_WEIGHTS // max(1, weight.columns))
    for begin in range(0, len(rows), step):
        blocks = rows[begin : begin + step].reshape(-1, known.block_bytes)
        first = (first_row + begin) * per_row
        for plane, field in zip(planes, PLANES[known.name], strict=True):
            plane[first:][: len(blocks)] = field(blocks)


def join_into(data: Tensor, total_rows: int, first_row: int, out: BlockTensor) -> None:
    known, rows = out.format, out.blocks
    per_row = out.columns // known.block_weights
    planes = _planes(data, known, total_rows * per_row)
    source = bit_sources(known.name).to(data.device)
    step = max(1, PIECE_WEIGHTS // 16 // max(1, out.columns))
    for begin in range(0, len(rows), step):
        count = len(rows[begin : begin + step]) * per_row
        first = (first_row + begin) * per_row
        mixed = bits(torch.cat([plane[first:][:count] for plane in planes], dim=1))
        sorted_bits = mixed[:, source].view(count, known.block_bytes, 8)
        packed = _above_one_another(sorted_bits.unsqueeze(-1), 1).squeeze(-1)
        rows[begin : begin + step] = packed.view(-1, rows.shape[1])


@lru_cache
def bit_sources(name: str) -> Tensor:
    """[8 block_bytes]: for each bit of a block its place in the planes' bytes of that block."""
    nbytes = BY_NAME[name].block_bytes
    bit = torch.arange(8 * nbytes)
    one_bit = torch.zeros(8 * nbytes, nbytes, dtype=torch.uint8)
    one_bit[bit, bit // 8] = 1 << (bit % 8).to(torch.uint8)
    moved = bits(torch.cat([field(one_bit) for field in PLANES[name]], dim=1))
    return moved.argmax(dim=1)


@lru_cache
def plane_bytes(name: str) -> tuple[int, ...]:
    """Bytes per block of each plane."""
    block = torch.zeros(1, BY_NAME[name].block_bytes, dtype=torch.uint8)
    return tuple(field(block).shape[1] for field in PLANES[name])


def _planes(data: Tensor, known: BlockFormat, count: int) -> list[Tensor]:
    """A view [count, bytes] of each plane."""
    widths = plane_bytes(known.name)
    parts = torch.split(data, [count * width for width in widths])
    return [part.view(count, width) for part, width in zip(parts, widths, strict=True)]
