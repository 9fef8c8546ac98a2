"""Formats of 256 weights per block without a codebook: K-quants, IQ4_XS and the ternary ones.

Shapes: n blocks; 16 or 8 runs of a block share a scale.
"""

import torch
from torch import Tensor

from kernels.dequantize.reference_small import NONLINEAR, bits, half, lookup, nibbles


def pairs(packed: Tensor) -> Tensor:
    """[n, 32 k] uint8 -> [n, 128 k] two-bit numbers: of each 32 bytes the lowest, then the next."""
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=packed.device).view(4, 1)
    return (packed.view(len(packed), -1, 1, 32) >> shifts & 3).flatten(1)


def nibble_runs(packed: Tensor, run: int) -> Tensor:
    """[n, run k] uint8 -> [n, 2 run k]: of each `run` bytes all low nibbles, then all high ones."""
    return nibbles(packed.view(len(packed), -1, run)).flatten(1)


def fifth_bits(packed: Tensor) -> Tensor:
    """[n, 32] uint8 -> [n, 256]: bit 0 of every byte, then bit 1 of every byte, ..."""
    return bits(packed).view(-1, 32, 8).transpose(1, 2).flatten(1)


def in_runs(numbers: Tensor, runs: int) -> Tensor:
    """[n, 256] -> [n, runs, 256 / runs] float32."""
    return numbers.float().view(len(numbers), runs, -1)


def six_bit_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Twelve bytes -> scales, minima, each [n, 8]."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((low & 63, high & 15 | low >> 6 << 4), dim=-1)
    minima = torch.cat((middle & 63, high >> 4 | middle >> 6 << 4), dim=-1)
    return scales, minima


def scaled(scale: Tensor, numbers: Tensor) -> Tensor:
    """scale [n, runs] times numbers [n, runs, run] -> [n, 256]."""
    return (scale.unsqueeze(-1) * numbers).flatten(1)


def scaled_above(scale: Tensor, numbers: Tensor, minimum: Tensor) -> Tensor:
    return (scale.unsqueeze(-1) * numbers - minimum.unsqueeze(-1)).flatten(1)


def q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, 0:16]
    scale, minimum = half(blocks, 80) * (scales & 15), half(blocks, 82) * (scales >> 4)
    return scaled_above(scale, in_runs(pairs(blocks[:, 16:80]), 16), minimum)


def q3_k(blocks: Tensor) -> Tensor:
    low = nibble_runs(blocks[:, 96:104], 8)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device).view(4, 1)
    high = (blocks[:, 104:108].unsqueeze(1) >> shifts & 3).flatten(1)
    scale = half(blocks, 108) * ((low | high << 4).float() - 32)
    number = pairs(blocks[:, 32:96]) | fifth_bits(blocks[:, 0:32]) << 2
    return scaled(scale, in_runs(number, 16) - 4)


def q4_k(blocks: Tensor) -> Tensor:
    scales, minima = six_bit_scales(blocks[:, 4:16])
    number = nibble_runs(blocks[:, 16:144], 32)
    return scaled_above(half(blocks, 0) * scales, in_runs(number, 8), half(blocks, 2) * minima)


def q5_k(blocks: Tensor) -> Tensor:
    scales, minima = six_bit_scales(blocks[:, 4:16])
    number = nibble_runs(blocks[:, 48:176], 32) | fifth_bits(blocks[:, 16:48]) << 4
    return scaled_above(half(blocks, 0) * scales, in_runs(number, 8), half(blocks, 2) * minima)


def q6_k(blocks: Tensor) -> Tensor:
    number = nibble_runs(blocks[:, 0:128], 64) | pairs(blocks[:, 128:192]) << 4
    scale = half(blocks, 208) * blocks[:, 192:208].view(torch.int8)
    return scaled(scale, in_runs(number, 16) - 32)


def iq4_xs(blocks: Tensor) -> Tensor:
    low = torch.stack((blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4), dim=-1).flatten(1)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=blocks.device)
    high = (blocks[:, 2:4].unsqueeze(-1) >> shifts & 3).flatten(1)
    scale = half(blocks, 0) * ((low | high << 4).float() - 32)
    number = lookup(NONLINEAR, nibble_runs(blocks[:, 8:136], 16))
    return scaled(scale, in_runs(number, 8))


def tq1_0(blocks: Tensor) -> Tensor:
    """A byte is a fraction of 256 with base-3 digits: times 3 the next digit overflows."""
    powers = torch.tensor([1, 3, 9, 27, 81], dtype=torch.uint8, device=blocks.device).view(5, 1)
    parts = (
        blocks[:, None, 0:32] * powers,
        blocks[:, None, 32:48] * powers,
        blocks[:, None, 48:52] * powers[:4],
    )
    digit = torch.cat([part.flatten(1) for part in parts], dim=-1).int() * 3 >> 8
    return half(blocks, 52) * (digit - 1).float()


def tq2_0(blocks: Tensor) -> Tensor:
    return half(blocks, 64) * (pairs(blocks[:, 0:64]).float() - 1)


DECODERS = {
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
    "IQ4_XS": iq4_xs,
    "TQ1_0": tq1_0,
    "TQ2_0": tq2_0,
}
