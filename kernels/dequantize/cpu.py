"""Calls `cpu.cpp`."""

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.native.library import library
from kernels.native.parallel import over_rows


def dequantize_into(weight: BlockTensor, out: Tensor) -> None:
    decode = library().hybrid_dequantize
    format_id, columns = weight.format.ggml_id, weight.columns
    for blocks, target in _matrices(weight.blocks, out):
        rows, stride = blocks.shape[0], blocks.stride(0)
        source, destination = blocks.data_ptr(), target.data_ptr()

        def share(begin: int, end: int) -> None:
            decode(
                format_id,
                source + begin * stride,  # noqa: B023  shares of this round end in this round
                stride,  # noqa: B023
                end - begin,
                columns,
                destination + begin * columns * 4,  # noqa: B023
            )

        over_rows(share, rows, rows * columns)


def _matrices(blocks: Tensor, out: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two-dimensional parts of blocks and out, in order: one where the rows are evenly spaced, else one per
    leading index (a cut of every head's or expert's rows)."""
    if blocks.dim() == 2:
        return [(blocks, out)]
    if blocks.is_contiguous():
        return [(blocks.view(-1, blocks.shape[-1]), out.view(-1, out.shape[-1]))]
    return [part for pair in zip(blocks, out, strict=True) for part in _matrices(*pair)]
