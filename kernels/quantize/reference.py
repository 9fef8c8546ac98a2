"""Encoding in plain torch on any device, float operations in ggml's order."""

import torch
from torch import Tensor


def quantize_q8_0(x: Tensor) -> Tensor:
    """x [..., columns] float32 -> [..., columns / 32 * 34] uint8."""
    groups = x.reshape(-1, 32)
    d = groups.abs().amax(dim=1, keepdim=True) / 127
    inverse = torch.where(d == 0, 0.0, 1 / d)
    number = round_half_away(groups * inverse).to(torch.int8)
    blocks = torch.cat((d.to(torch.float16).view(torch.uint8), number.view(torch.uint8)), dim=1)
    return blocks.view(*x.shape[:-1], x.shape[-1] // 32 * 34)


def round_half_away(x: Tensor) -> Tensor:
    """torch.round takes halves to even; ggml takes them away from zero."""
    size = x.abs()
    whole = size.floor()
    return x.sign() * (whole + (2 * (size - whole)).floor())
