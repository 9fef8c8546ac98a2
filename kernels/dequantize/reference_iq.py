"""Formats of 256 weights per block whose groups of eight are entries of a codebook.

Shapes: n blocks, 32 groups of 8 weights each; four groups make a run of 32.
"""

import torch
from torch import Tensor

from kernels.codebooks import codebook
from kernels.dequantize.reference_small import bits, half, words

SHIFT = 0.125


def words16(packed: Tensor) -> Tensor:
    """[n, 2 k] uint8 -> [n, k] int32, 0 .. 65535."""
    return words(packed, torch.int16).int() & 0xFFFF


def words32(packed: Tensor) -> Tensor:
    """[n, 4 k] uint8 -> [n, k] int64, 0 .. 2^32 - 1."""
    return words(packed, torch.int32).long() & 0xFFFFFFFF


def fields(packed: Tensor, width: int, count: int) -> Tensor:
    """[n, k] -> [n, k count]: the lowest `count` fields of `width` bits of each number."""
    shifts = torch.arange(0, width * count, width, dtype=packed.dtype, device=packed.device)
    return (packed.unsqueeze(-1) >> shifts & (1 << width) - 1).flatten(1)


def entries(name: str, index: Tensor) -> Tensor:
    """Codebook entries side by side as [n, 32, 8] float32."""
    return codebook(name, index.device)[index.int()].float().view(len(index), 32, 8)


def signs(sign_bytes: Tensor) -> Tensor:
    """[n, 32] uint8 -> [n, 32, 8]: -1 where a bit is set, else 1."""
    return 1 - 2 * bits(sign_bytes).view(-1, 32, 8).float()


def even_signs(seven: Tensor) -> Tensor:
    """[n, 32] seven sign bits; the eighth makes the number of ones even."""
    ones = fields(seven, 1, 7).view(*seven.shape, 7).sum(-1)
    return signs((seven | (ones & 1) << 7).to(torch.uint8))


def signed(scale: Tensor, numbers: Tensor, sign: Tensor) -> Tensor:
    """scale [n, runs], each run some whole groups; numbers, sign [n, 32, 8] -> [n, 256]."""
    of_group = scale.repeat_interleave(32 // scale.shape[1], dim=1).unsqueeze(-1)
    return (of_group * numbers * sign).flatten(1)


def shifted(scale: Tensor, numbers: Tensor, negative: Tensor) -> Tensor:
    """scale (numbers + SHIFT), or - SHIFT where negative [n, runs] is not zero."""
    shift = torch.where(negative != 0, -SHIFT, SHIFT)
    of_group = shift.repeat_interleave(32 // shift.shape[1], dim=1).unsqueeze(-1)
    scale_of_group = scale.repeat_interleave(32 // scale.shape[1], dim=1).unsqueeze(-1)
    return (scale_of_group * (numbers + of_group)).flatten(1)


def iq2_xxs(blocks: Tensor) -> Tensor:
    runs = blocks[:, 2:66].reshape(-1, 8, 8)
    word = words32(runs[:, :, 4:].flatten(1))
    scale = half(blocks, 0) * (0.5 + (word >> 28).float()) * 0.25
    numbers = entries("IQ2_XXS", runs[:, :, :4].flatten(1))
    return signed(scale, numbers, even_signs(fields(word, 7, 4)))


def iq2_xs(blocks: Tensor) -> Tensor:
    word = words16(blocks[:, 2:66])
    scale = half(blocks, 0) * (0.5 + fields(blocks[:, 66:74], 4, 2).float()) * 0.25
    return signed(scale, entries("IQ2_XS", word & 511), even_signs(word >> 9))


def iq2_s(blocks: Tensor) -> Tensor:
    index = blocks[:, 2:34].int() | fields(blocks[:, 66:74], 2, 4).int() << 8
    scale = half(blocks, 0) * (0.5 + fields(blocks[:, 74:82], 4, 2).float()) * 0.25
    return signed(scale, entries("IQ2_S", index), signs(blocks[:, 34:66]))


def iq3_xxs(blocks: Tensor) -> Tensor:
    word = words32(blocks[:, 66:98])
    scale = half(blocks, 0) * (0.5 + (word >> 28).float()) * 0.5
    return signed(scale, entries("IQ3_XXS", blocks[:, 2:66]), even_signs(fields(word, 7, 4)))


def iq3_s(blocks: Tensor) -> Tensor:
    index = blocks[:, 2:66].int() | bits(blocks[:, 66:74]).int() << 8
    scale = half(blocks, 0) * (1 + 2 * fields(blocks[:, 106:110], 4, 2)).float()
    return signed(scale, entries("IQ3_S", index), signs(blocks[:, 74:106]))


def iq1_s(blocks: Tensor) -> Tensor:
    word = words16(blocks[:, 34:50])
    index = blocks[:, 2:34].int() | fields(word, 3, 4) << 8
    scale = half(blocks, 0) * (2 * (word >> 12 & 7) + 1).float()
    return shifted(scale, entries("IQ1_S", index), word & 0x8000)


def iq1_m(blocks: Tensor) -> Tensor:
    word = words16(blocks[:, 48:56])
    places = torch.arange(0, 16, 4, dtype=torch.int32, device=blocks.device)
    pattern = (word >> 12 << places).sum(-1, keepdim=True)
    d = pattern.to(torch.int16).view(torch.float16).float()
    scale = d * (2 * fields(word, 3, 4) + 1).float()
    nibble = fields(blocks[:, 32:48], 4, 2).int()
    index = blocks[:, 0:32].int() | (nibble & 7) << 8
    return shifted(scale, entries("IQ1_S", index), nibble & 8)


DECODERS = {
    "IQ2_XXS": iq2_xxs,
    "IQ2_XS": iq2_xs,
    "IQ2_S": iq2_s,
    "IQ3_XXS": iq3_xxs,
    "IQ3_S": iq3_s,
    "IQ1_S": iq1_s,
    "IQ1_M": iq1_m,
}
