"""Calls `cpu.cpp`."""

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.native.library import BEST_TIER, library
from kernels.native.parallel import over_rows


def dequantize_into(weight: BlockTensor, out: Tensor) -> None:
    """`weight` of up to three dimensions may be a cut of every head's or expert's rows."""
    blocks, columns, format_id = weight.blocks, weight.columns, weight.format.ggml_id
    if blocks.dim() > 3 and not blocks.is_contiguous():
        for part, part_out in zip(blocks, out, strict=True):
            dequantize_into(BlockTensor(part, weight.format, columns), part_out)
        return
    groups = blocks.flatten(0, -3) if blocks.dim() > 3 else blocks[(None,) * (3 - blocks.dim())]
    count, group_rows, _ = groups.shape
    group_stride, row_stride, _ = groups.stride()
    source, destination = groups.data_ptr(), out.data_ptr()
    decode = library().hybrid_dequantize

    def share(begin: int, end: int) -> None:
        decode(
            BEST_TIER,
            format_id,
            source,
            group_stride,
            group_rows,
            row_stride,
            begin,
            end,
            columns,
            destination,
        )

    over_rows(share, count * group_rows, count * group_rows * columns)
