"""Calls `cpu.cpp` for few tokens; for many decodes natively and lets torch multiply."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.native.library import BEST_TIER, library
from kernels.native.parallel import over_rows

# From here on torch's blocked product repays writing decoded weights out.
DECODE_FIRST_TOKENS = 8
# Decoded at once: 4 MiB stay in the CPU's cache until they are multiplied; memory is bounded.
PART_WEIGHTS = 1 << 20


def linear(x: Tensor, weight: BlockTensor) -> Tensor:
    return (
        linear_by_parts(x, weight) if len(x) >= DECODE_FIRST_TOKENS else linear_by_rows(x, weight)
    )


def linear_by_parts(x: Tensor, weight: BlockTensor) -> Tensor:
    rows, columns = weight.shape
    part = max(1, PART_WEIGHTS // max(1, columns))
    y = torch.empty(len(x), rows)
    decoded = torch.empty(min(part, rows), columns)
    for begin in range(0, rows, part):
        end = min(begin + part, rows)
        matrix = dequantize(weight[begin:end], decoded[: end - begin], implementation="native")
        torch.mm(x, matrix.T, out=y[:, begin:end])
    return y


def linear_by_rows(x: Tensor, weight: BlockTensor) -> Tensor:
    if x.stride(1) != 1:
        x = x.contiguous()
    tokens, columns = x.shape
    blocks = weight.blocks
    rows = blocks.shape[0]
    y = torch.empty(tokens, rows)
    multiply = library().hybrid_linear
    source, stride, format_id = blocks.data_ptr(), blocks.stride(0), weight.format.ggml_id
    x_pointer, x_stride, y_pointer = x.data_ptr(), x.stride(0), y.data_ptr()

    def share(begin: int, end: int) -> None:
        multiply(
            BEST_TIER,
            format_id,
            source,
            stride,
            begin,
            end,
            columns,
            x_pointer,
            x_stride,
            tokens,
            y_pointer,
            rows,
        )

    over_rows(share, rows, rows * columns)
    return y
