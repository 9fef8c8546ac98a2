"""Decode a part of the rows, then one float32 matrix product: any device, any number of tokens."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize

# Decoded at once: 16 MiB, and about as much again for each step of the decoder. DeepSeek-V3's head
# decoded whole would take 3.5 GiB beside the weights.
PART_WEIGHTS = 1 << 22


def linear(x: Tensor, weight: BlockTensor) -> Tensor:
    rows, columns = weight.shape
    part = max(1, PART_WEIGHTS // max(1, columns))
    y = torch.empty(len(x), rows, device=x.device)
    for begin in range(0, rows, part):
        matrix = dequantize(weight[begin : begin + part], implementation="reference")
        torch.mm(x, matrix.T, out=y[:, begin : begin + part])
    return y
