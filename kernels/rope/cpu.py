"""Calls `cpu.cpp`."""

import torch
from torch import Tensor

from kernels.native import tiers
from kernels.native.library import library


def rope(x: Tensor, positions: Tensor, frequency: Tensor, amplitude: float) -> Tensor:
    out = x.clone(memory_format=torch.contiguous_format)
    if not out.numel():
        return out
    frequency, positions = frequency.cpu().contiguous(), positions.contiguous()
    tokens, length = len(x), x.shape[-1]
    table = torch.empty(2, tokens, length // 2)
    cos, sin = table[0].data_ptr(), table[1].data_ptr()
    source, angles = positions.data_ptr(), frequency.data_ptr()
    library().hybrid_rope_table(angles, length // 2, source, tokens, amplitude, cos, sin)
    heads = out.numel() // (tokens * length)
    library().hybrid_rotate(tiers.current(), out.data_ptr(), tokens, heads, length, cos, sin)
    return out
