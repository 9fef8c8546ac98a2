"""Decode all heads (natively on the CPU), then one float32 product, the heads as its batch."""

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize


def head_linear(x: Tensor, weight: BlockTensor, transposed: bool) -> Tensor:
    matrices = dequantize(weight)  # [heads, rows, columns]
    if not transposed:
        matrices = matrices.transpose(1, 2)
    heads_first = x.transpose(0, 1).expand(len(matrices), -1, -1)
    return heads_first.bmm(matrices).transpose(0, 1)
