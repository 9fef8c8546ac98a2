import gguf
import pytest
import torch

from kernels.dequantize import dequantize
from kernels.errors import KernelInputError
from kernels.quantize import cases, quantize_q8_0


def by_gguf(x):
    return torch.from_numpy(gguf.quants.quantize(x.numpy(), gguf.GGMLQuantizationType.Q8_0))


@pytest.mark.parametrize("shape", [*cases.SMALL, *cases.REAL], ids=str)
def test_blocks_are_those_of_the_gguf_package(shape):
    x = cases.rows(shape)
    got = quantize_q8_0(x)
    assert got.shape == shape
    assert torch.equal(got.blocks, by_gguf(x))


def test_halves_are_rounded_away_from_zero():
    x = torch.full((1, 32), 2.5)
    x[0, 0], x[0, 1] = 127, -2.5
    assert quantize_q8_0(x).blocks[0, 2:5].tolist() == [127, 256 - 3, 3]


def test_scales_below_the_smallest_half_decode_to_zero():
    x = torch.full((1, 32), 1e-9)
    assert torch.equal(quantize_q8_0(x).blocks, by_gguf(x))
    assert dequantize(quantize_q8_0(x)).eq(0).all()


def test_strided_rows_are_encoded_as_their_copies():
    x = cases.rows((6, 128))[::2, 32:96]
    assert torch.equal(quantize_q8_0(x).blocks, by_gguf(x.contiguous()))


@pytest.mark.parametrize(
    "x",
    [torch.zeros(2, 33), torch.zeros(2, 32, dtype=torch.float16), torch.zeros(())],
    ids=["columns", "dtype", "no dimension"],
)
def test_rows_that_make_no_whole_blocks_are_refused(x):
    with pytest.raises(KernelInputError, match="multiple of 32"):
        quantize_q8_0(x)
