import pytest
import torch

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME

Q8_0, Q4_K = BY_NAME["Q8_0"], BY_NAME["Q4_K"]


def test_shape_counts_weights_and_nbytes_counts_bytes():
    weight = BlockTensor(torch.zeros(3, 5, 2 * 34, dtype=torch.uint8), Q8_0, 64)
    assert weight.shape == (3, 5, 64)
    assert weight.nbytes == 3 * 5 * 68


def test_slices_share_memory():
    weight = BlockTensor(torch.zeros(3, 5, 34, dtype=torch.uint8), Q8_0, 32)
    weight[1, 2:4].blocks.fill_(7)
    assert weight.blocks[1, 2:4].eq(7).all()
    assert weight.blocks.sum() == 7 * 2 * 34
    assert weight[:, 1:3].shape == (3, 2, 32)


@pytest.mark.parametrize(
    ("blocks", "block_format", "columns", "says"),
    [
        (torch.zeros(2, 34), Q8_0, 32, "uint8"),
        (torch.zeros(2, 33, dtype=torch.uint8), Q8_0, 32, "34 bytes, not 33"),
        (torch.zeros(2, 144, dtype=torch.uint8), Q4_K, 200, "200 Q4_K weights"),
        (torch.zeros(34, 34, dtype=torch.uint8).T, Q8_0, 32, "contiguous"),
    ],
    ids=["dtype", "bytes", "part of a block", "strided bytes"],
)
def test_blocks_that_do_not_make_whole_rows_are_refused(blocks, block_format, columns, says):
    with pytest.raises(KernelInputError, match=says):
        BlockTensor(blocks, block_format, columns)


def test_a_cut_inside_a_row_is_refused():
    weight = BlockTensor(torch.zeros(3, 68, dtype=torch.uint8), Q8_0, 64)
    with pytest.raises(KernelInputError):
        weight[:, :34]
