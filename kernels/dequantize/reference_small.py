"""Plain floats and the formats of 32 weights per block."""

import torch
from torch import Tensor

NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1_DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def words(field: Tensor, dtype: torch.dtype) -> Tensor:
    """[n, b] bytes of any address and stride read as dtype; a view alone may be misaligned."""
    return field.clone(memory_format=torch.contiguous_format).view(dtype)


def half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte `at` of each block: [n, 1] float32."""
    return words(blocks[:, at : at + 2], torch.float16).float()


def nibbles(packed: Tensor) -> Tensor:
    """[..., b] uint8 -> [..., 2 b]: all low nibbles, then all high ones."""
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def bits(packed: Tensor) -> Tensor:
    """[..., b] uint8 -> [..., 8 b] 0 or 1, lowest bit of each byte first."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> places & 1).flatten(-2)


def lookup(numbers: tuple[int, ...], index: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=index.device)[index.int()]


def f32(blocks: Tensor) -> Tensor:
    return words(blocks, torch.float32)


def f16(blocks: Tensor) -> Tensor:
    return half(blocks, 0)


def bf16(blocks: Tensor) -> Tensor:
    return (words(blocks, torch.int16).int() << 16).view(torch.float32)


def q4_0(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * (nibbles(blocks[:, 2:]).float() - 8)


def q4_1(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * nibbles(blocks[:, 4:]).float() + half(blocks, 2)


def q5_0(blocks: Tensor) -> Tensor:
    number = nibbles(blocks[:, 6:]) | bits(blocks[:, 2:6]) << 4
    return half(blocks, 0) * (number.float() - 16)


def q5_1(blocks: Tensor) -> Tensor:
    number = nibbles(blocks[:, 8:]) | bits(blocks[:, 4:8]) << 4
    return half(blocks, 0) * number.float() + half(blocks, 2)


def q8_0(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def iq4_nl(blocks: Tensor) -> Tensor:
    return half(blocks, 0) * lookup(NONLINEAR, nibbles(blocks[:, 2:]))


def mxfp4(blocks: Tensor) -> Tensor:
    """Scale 2^(e - 128), half of e8m0's for the doubled numbers; subnormal for e < 2."""
    exponent = blocks[:, :1].int()
    scale = torch.where(exponent < 2, 0x00200000 << exponent, exponent - 1 << 23)
    return scale.view(torch.float32) * lookup(E2M1_DOUBLED, nibbles(blocks[:, 1:]))


DECODERS = {
    "F32": f32,
    "F16": f16,
    "BF16": bf16,
    "Q4_0": q4_0,
    "Q4_1": q4_1,
    "Q5_0": q5_0,
    "Q5_1": q5_1,
    "Q8_0": q8_0,
    "IQ4_NL": iq4_nl,
    "MXFP4": mxfp4,
}
