import pytest
import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize, gpu
from kernels.dequantize.cases import any_bits
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.planar import to_planar
from kernels.testing import assert_same_bits
from tests.kernels.aot import CAPABILITIES, cuda_resources

every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
OF_BLOCKS = [known.name for known in FORMATS if known.block_weights > 1]


@pytest.fixture(scope="module", autouse=True)
def compiled_together():
    gpu.PROGRAM.compile(
        [f"decode_rows<{name}, {how}>" for name in OF_BLOCKS for how in gpu.RESULTS.values()], "cpu"
    )


def planar_on(device, weight):
    return to_planar(BlockTensor(weight.blocks.to(device), weight.format, weight.columns))


@devices
@every_format
@pytest.mark.parametrize("dtype", gpu.RESULTS, ids=str)
def test_every_bit_pattern_decodes_as_the_reference_does(known, dtype, device):
    weight = any_bits(known, (3, 5, 5 * known.block_weights))
    out = torch.empty(weight.shape, dtype=dtype, device=device)
    gpu.decode_into(planar_on(device, weight), out)
    expected = dequantize(weight, implementation="reference").to(dtype)
    assert_same_bits(out.float(), expected.float())


@devices
@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "BF16"])
def test_a_cut_decodes_its_own_rows_and_writes_no_others(name, device):
    weight = any_bits(BY_NAME[name], (6, 256))
    out = torch.full((4, 256), 7.0, device=device)
    gpu.decode_into(planar_on(device, weight)[2:5], out[:3])
    assert_same_bits(out[:3], dequantize(weight, implementation="reference")[2:5])
    assert (out[3] == 7).all()


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(2, 64, dtype=torch.float64),
        torch.empty(2, 32),
        torch.empty(64, 2).T,
        torch.empty(2, 64, device="meta"),
    ],
    ids=["dtype", "shape", "strides", "device"],
)
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(KernelInputError, match="out must be"):
        gpu.decode_into(to_planar(any_bits(BY_NAME["Q8_0"], (2, 64))), out)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_no_gpu_spills_registers(capability):
    names = [f"decode_rows<{name}, AsBF16>" for name in ("Q8_0", "Q5_K", "IQ2_S", "TQ1_0")]
    for name, needs in cuda_resources("dequantize/gpu.cu", names, capability).items():
        assert needs.spill_bytes == needs.stack_bytes == 0, name
