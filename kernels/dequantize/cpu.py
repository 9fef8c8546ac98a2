"""Calls `cpu.cpp`."""

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.native import pool, tiers
from kernels.native.library import library


def dequantize_into(weight: BlockTensor, out: Tensor) -> None:
    """`weight` of up to three dimensions may be a cut of every head's or expert's rows."""
    blocks, columns = weight.blocks, weight.columns
    if blocks.dim() > 3 and not blocks.is_contiguous():
        for part, part_out in zip(blocks, out, strict=True):
            dequantize_into(BlockTensor(part, weight.format, columns), part_out)
        return
    groups = blocks.flatten(0, -3) if blocks.dim() > 3 else blocks[(None,) * (3 - blocks.dim())]
    count, group_rows, _ = groups.shape
    group_stride, row_stride, _ = groups.stride()
    pool.run(
        library().hybrid_dequantize,
        tiers.current(),
        pool.threads_for(count * group_rows * columns),
        weight.format.ggml_id,
        groups.data_ptr(),
        group_stride,
        group_rows,
        row_stride,
        count * group_rows,
        columns,
        out.data_ptr(),
    )
