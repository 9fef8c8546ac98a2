import gguf
import numpy as np
import pytest
import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import IMPLEMENTATIONS, cases, dequantize
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.testing import assert_same_bits, poisoned_memory
from tests.shared_folder import KIT

QUANTS = KIT / "quants" / "quants.npz"

every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def by_gguf(weight):
    if not weight.blocks.numel():
        return torch.empty(weight.shape)  # which the gguf package cannot decode
    blocks = weight.blocks.contiguous().numpy()
    with np.errstate(all="ignore"):
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(weight.format.ggml_id))
    return torch.from_numpy(np.array(values)).view(weight.shape)


@every_format
@every_implementation
@pytest.mark.parametrize(("rows", "blocks"), cases.SMALL)
def test_any_bits_decode_as_the_gguf_package_decodes_them(known, implementation, rows, blocks):
    weight = cases.any_bits(known, (rows, blocks * known.block_weights), seed=rows)
    with poisoned_memory():
        got = dequantize(weight, implementation=implementation)
    assert_same_bits(got, by_gguf(weight))


@pytest.mark.parametrize("name", ["F16", "BF16", "Q4_1", "MXFP4", "IQ1_M"])
@every_implementation
def test_every_half_and_every_exponent_decodes(name, implementation):
    known = BY_NAME[name]
    weight = cases.any_bits(known, (65536, known.block_weights))
    patterns = torch.arange(65536, dtype=torch.int32)
    low, high = (patterns & 255).to(torch.uint8), (patterns >> 8).to(torch.uint8)
    if name == "IQ1_M":
        for word in range(4):
            weight.blocks[:, 49 + 2 * word] = (patterns >> 4 * word & 15).to(torch.uint8) << 4
    elif name == "MXFP4":
        weight.blocks[:, 0] = low
    else:
        weight.blocks[:, 0], weight.blocks[:, 1] = low, high
    assert_same_bits(dequantize(weight, implementation=implementation), by_gguf(weight))


@pytest.mark.parametrize(
    "known", [known for known in FORMATS if known.block_weights > 1], ids=lambda known: known.name
)
@every_implementation
def test_conformance_kit_blocks_decode_as_ggml_decodes_them(known, implementation):
    if not QUANTS.is_file():
        pytest.skip("../shared is not here")
    with np.load(QUANTS) as kit:
        for blocks, values in (
            (f"{known.name}_bytes", f"{known.name}_deq"),
            (f"rand_{known.name}", f"rand_{known.name}_deq"),
        ):
            expected = torch.from_numpy(kit[values])
            weight = BlockTensor(torch.from_numpy(kit[blocks]), known, expected.shape[1])
            assert_same_bits(dequantize(weight, implementation=implementation), expected)


@every_implementation
@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "IQ2_XXS", "F16"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda whole: whole[:, 1:3],
        lambda whole: whole[::2],
        lambda whole: whole[1, ::3],
        lambda whole: whole[2],
        lambda whole: whole[2, 4],
        lambda whole: whole[:0],
    ],
    ids=["rows of every matrix", "every second matrix", "every third row", "one", "row", "none"],
)
def test_cuts_decode_in_place_as_their_copies_do(implementation, name, cut):
    known = BY_NAME[name]
    weight = cut(cases.any_bits(known, (5, 7, 3 * known.block_weights)))
    with poisoned_memory():
        got = dequantize(weight, implementation=implementation)
    assert_same_bits(got, by_gguf(weight))


@every_implementation
def test_four_dimensions_cut_in_the_middle(implementation):
    weight = cases.any_bits(BY_NAME["Q5_0"], (2, 3, 5, 64))[:, :, 1:3]
    assert_same_bits(dequantize(weight, implementation=implementation), by_gguf(weight))


@every_format
@every_implementation
@pytest.mark.parametrize("rows", [1, 4])
def test_blocks_may_stand_at_odd_addresses(known, implementation, rows):
    expected = by_gguf(cases.any_bits(known, (rows, known.block_weights)))
    memory = cases.any_bits(known, (rows, known.block_weights)).blocks.flatten()
    odd = torch.cat((torch.zeros(1, dtype=torch.uint8), memory))[1:].view(rows, -1)
    assert odd.data_ptr() % 2 == 1
    weight = BlockTensor(odd, known, known.block_weights)
    assert_same_bits(dequantize(weight, implementation=implementation), expected)


def test_threads_share_rows_without_a_seam():
    weight = cases.any_bits(BY_NAME["Q4_K"], (1031, 2048))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with poisoned_memory():
            got = dequantize(weight)
    finally:
        torch.set_num_threads(threads)
    assert_same_bits(got, dequantize(weight, implementation="reference"))


@every_implementation
def test_out_is_filled_and_returned(implementation):
    weight = cases.any_bits(BY_NAME["Q4_0"], (3, 64))
    out = torch.full((3, 64), torch.nan)
    assert dequantize(weight, out, implementation=implementation) is out
    assert_same_bits(out, by_gguf(weight))


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(3, 63),
        torch.empty(3, 64, dtype=torch.float64),
        torch.empty(64, 3).T,
        torch.empty(3, 64, device="meta"),
    ],
    ids=["shape", "dtype", "strides", "device"],
)
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(KernelInputError, match="out"):
        dequantize(cases.any_bits(BY_NAME["Q8_0"], (3, 64)), out)


def test_an_unknown_implementation_lists_the_known_ones():
    with pytest.raises(KernelInputError, match="native, reference"):
        dequantize(cases.any_bits(BY_NAME["Q8_0"], (3, 64)), implementation="fast")


def test_the_native_library_is_refused_for_other_devices():
    weight = BlockTensor(torch.empty(3, 34, dtype=torch.uint8, device="meta"), BY_NAME["Q8_0"], 32)
    with pytest.raises(KernelInputError, match="not on meta"):
        dequantize(weight, implementation="native")


@pytest.mark.gpu
@every_format
def test_a_gpu_decodes_the_same_bits(known):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    weight = cases.any_bits(known, (33, 4 * known.block_weights))
    on_gpu = BlockTensor(weight.blocks.cuda(), known, weight.columns)
    assert_same_bits(dequantize(on_gpu), dequantize(weight))
