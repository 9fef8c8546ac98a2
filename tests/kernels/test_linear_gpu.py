import re
from pathlib import Path

import pytest
import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.linear import cases, gpu
from kernels.planar import to_planar
from kernels.quantize.reference import round_half_away
from kernels.testing import assert_close, assert_same_bits
from tests.kernels.aot import CAPABILITIES, cuda_resources

every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
EPSILON = 1e-6


@pytest.fixture(scope="module", autouse=True)
def compiled_together():
    names = [f"matvec<{tokens}, {known.name}>" for tokens in (1, 4, 8) for known in FORMATS]
    gpu.PROGRAM.compile(names, "cpu")


def some_weight(known, rows=37, blocks=3):
    columns = blocks * known.block_weights if known.block_weights > 1 else 77
    return like_weights(known, (rows, columns), seed=rows)


def planar_on(device, weight):
    return to_planar(BlockTensor(weight.blocks.to(device), weight.format, weight.columns))


def some_x(tokens, columns):
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens))


def as_rounded(x, known):
    """x as the kernel multiplies it: int8 times one scale for each 32, floats as they are."""
    if known.block_weights == 1:
        return x.double()
    groups = x.reshape(-1, 32)
    scale = groups.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    return (round_half_away(groups * inverse).double() * scale).reshape(x.shape)


def expected_of(x, weight):
    matrix = dequantize(weight, implementation="reference").double()
    return as_rounded(x, weight.format) @ matrix.T


def run(x, weights, tokens, device, **norm):
    """Results of one launch on `device`, each as [tokens, rows] on the CPU."""
    products = [
        gpu.Product(planar_on(device, weight), torch.empty(tokens, weight.shape[0], device=device))
        for weight in weights
    ]
    norm = {name: v.to(device) if name == "norm" else v for name, v in norm.items()}
    gpu.matvec(x.to(device), products, tokens, **norm)
    return [product.out.cpu() for product in products]


@devices
@every_format
@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_is_the_product_of_the_rounded_activations(known, tokens, device):
    weight = some_weight(known)
    x = some_x(tokens, weight.columns)
    (got,) = run(x, [weight], tokens, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
@pytest.mark.parametrize("tokens", [1, 2, 5])
@pytest.mark.parametrize("names", [("Q8_0", "Q4_K", "Q6_K"), ("Q4_K", "F32"), ("Q8_0", "Q8_0")])
def test_matrices_of_several_formats_share_a_launch(names, tokens, device):
    weights = [
        like_weights(BY_NAME[name], (rows, 512), seed=rows)
        for name, rows in zip(names, (3, 129, 64), strict=False)
    ]
    x = some_x(tokens, 512)
    for got, weight in zip(run(x, weights, tokens, device), weights, strict=True):
        assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
@pytest.mark.parametrize("name", ["Q4_K", "BF16"])
@pytest.mark.parametrize("tokens", [1, 6])
def test_the_norm_comes_before_the_rounding(name, tokens, device):
    """Up to ties that a last bit of the norm turns the other way."""
    weight = like_weights(BY_NAME[name], (21, 768))
    x = some_x(tokens, 768) * 3
    norm = torch.rand(768) + 0.5
    normed = x * (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt() * norm
    (got,) = run(x, [weight], tokens, device, norm=norm, epsilon=EPSILON)
    assert_close(got, expected_of(normed, weight), 2e-3 if name == "Q4_K" else 4e-6)


@devices
def test_a_residual_is_added_to_and_other_rows_stay(device):
    weight = some_weight(BY_NAME["Q5_K"])
    x, before = some_x(3, weight.columns), some_x(5, 37)
    out = before.to(device, copy=True)
    product = gpu.Product(planar_on(device, weight), out, add=True)
    gpu.matvec(x.to(device), [product], 3)
    assert_close(out[:3].cpu(), before[:3] + expected_of(x, weight), cases.RELATIVE_ERROR)
    assert_same_bits(out[3:].cpu(), before[3:])


@devices
@pytest.mark.parametrize("tokens", [1, 8])
@pytest.mark.parametrize("columns", [32, 64, 160, 1408, 2080])
def test_rows_of_any_number_of_groups(columns, tokens, device):
    weight = like_weights(BY_NAME["IQ4_NL"], (19, columns))
    x = some_x(tokens, columns)
    (got,) = run(x, [weight], tokens, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("columns", [1, 7, 256, 300])
def test_plain_floats_have_rows_of_any_length(name, columns, device):
    weight = like_weights(BY_NAME[name], (5, columns))
    x = some_x(3, columns)
    (got,) = run(x, [weight], 3, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
def test_tokens_that_do_not_fit_a_block_take_several(device, monkeypatch):
    monkeypatch.setattr(gpu, "SHARED_BYTES", 3 * 10 * 80)
    weight = like_weights(BY_NAME["Q8_0"], (11, 640))
    x = some_x(7, 640)
    assert gpu._tokens_of_block(("Q8_0",), 640, 7) == (2, 2 * 10 * 80)
    (got,) = run(x, [weight], 7, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
def test_a_range_of_experts_is_multiplied_alone(device):
    weight = like_weights(BY_NAME["Q6_K"], (5, 3, 256))
    x = some_x(1, 256)
    out = torch.empty(1, 6, device=device)
    gpu.matvec(x.to(device), [gpu.Product(planar_on(device, weight)[2:4], out)], 1)
    two = BlockTensor(weight.blocks[2:4].reshape(6, -1), weight.format, 256)
    assert_close(out.cpu(), expected_of(x, two), cases.RELATIVE_ERROR)


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("name", ["Q8_0", "F32"])
def test_a_value_that_is_no_number_spoils_its_own_token_alone(name, bad):
    weight = like_weights(BY_NAME[name], (4, 64))
    x = some_x(2, 64)
    x[1, 40] = bad
    (got,) = run(x, [weight], 2, "cpu")
    assert got[0].isfinite().all()
    assert not got[1].isfinite().any()


@devices
def test_halves_are_rounded_away_from_zero(device):
    weight = like_weights(BY_NAME["Q8_0"], (9, 64))
    x = (torch.arange(64) % 32 - 15.5).view(1, 64).clone()
    x[0, ::32] = 127  # of both groups d = 1
    (got,) = run(x, [weight], 1, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@devices
@pytest.mark.parametrize(("name", "columns"), [("Q8_0", 4096), ("Q2_K", 16384), ("F32", 1024)])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_warps_share_the_rows_of_a_matrix_with_few(name, columns, rows, device):
    weight = like_weights(BY_NAME[name], (rows, columns))
    planar = planar_on(device, weight)
    product = gpu.Product(planar, torch.empty(1, rows, device=device))
    threads, (blocks,) = gpu._grid([product], 1, planar.device)
    assert gpu._warps(planar, 1, threads, blocks) > 1
    x = some_x(1, columns)
    (got,) = run(x, [weight], 1, device)
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


@pytest.mark.parametrize(
    ("names", "rows", "columns", "threads", "blocks"),
    [
        (["Q8_0"], [13], 4096, 512, [3]),
        (["Q8_0", "Q2_K", "F32"], [13, 40, 5], 4096, 256, [2, 3, 5]),
        *(([known.name], [7], 16384, 256, [2]) for known in FORMATS if known.block_weights > 1),
        *(([name], [7], 4100, 256, [2]) for name in ("F16", "BF16")),
    ],
    ids=str,
)
def test_several_teams_of_warps_add_their_rows(names, rows, columns, threads, blocks, monkeypatch):
    """Of a block; some of them have no rows at all."""
    monkeypatch.setattr(gpu, "_grid", lambda *_: (threads, blocks))
    x = some_x(1, columns)
    weights = [
        like_weights(BY_NAME[name], (count, columns))
        for name, count in zip(names, rows, strict=True)
    ]
    products = [
        gpu.Product(to_planar(weight), torch.full((1, weight.shape[0]), 2.0), add=True)
        for weight in weights
    ]
    per_block = [gpu._warps(p.weight, 1, threads, n) for p, n in zip(products, blocks, strict=True)]
    assert max(per_block) > 1
    assert min(per_block) < threads // gpu.WARP, "one team alone"
    gpu.matvec(x, products, 1)
    for product, weight in zip(products, weights, strict=True):
        assert_close(product.out - 2, expected_of(x, weight), cases.RELATIVE_ERROR)


@pytest.mark.gpu
def test_a_matrix_of_few_rows_is_right_on_a_whole_gpu():
    weight = like_weights(BY_NAME["Q4_K"], (2112, 7168))
    x = some_x(1, 7168)
    (got,) = run(x, [weight], 1, "cuda")
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


def test_what_python_knows_of_loads_is_what_the_kernels_do():
    planar = Path(gpu.__file__).parent.parent / "planar"
    text = "".join((planar / name).read_text() for name in ("pairs_k.h", "pairs_iq.h"))
    found = re.findall(r"(?:Known|Whole)Pairs<(\w+), (\d)", text)
    assert {name: int(steps) for name, steps in found if steps != "2"} == {"IQ1_S": 4}
    own = re.findall(r"Pairs<(\w+)> : KnownPlanes.*?kGroups = (\d), kSteps = (\d)", text, re.S)
    assert own == [("TQ1_0", "8", "1")]
    assert {**dict.fromkeys(dict(found), 64), "TQ1_0": 256} == gpu.TOGETHER
    assert gpu.STEPS == {"F32": 4, "F16": 4, "BF16": 4, "IQ1_S": 4, "TQ1_0": 1}


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x55])
@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "TQ1_0", "TQ2_0"])
def test_the_largest_sums_fit_their_integers(name, byte):
    known = BY_NAME[name]
    weight = like_weights(known, (3, 512))
    blocks = weight.blocks.view(-1, known.block_bytes)
    halves = blocks[:, -4:].clone() if name == "Q2_K" else blocks[:, -2:].clone()
    blocks[:] = byte
    blocks[:, -halves.shape[1] :] = halves
    x = torch.full((1, 512), -3.0)
    (got,) = run(x, [weight], 1, "cpu")
    assert_close(got, expected_of(x, weight), cases.RELATIVE_ERROR)


def test_zeros_give_zeros():
    (got,) = run(torch.zeros(2, 256), [some_weight(BY_NAME["Q2_K"], blocks=1)], 2, "cpu")
    assert (got == 0).all()


@pytest.mark.parametrize("rows", [1, 15, 4000])
@pytest.mark.parametrize("tokens", [1, 8])
def test_the_grid_covers_every_row_and_fits_the_gpu(rows, tokens, monkeypatch):
    monkeypatch.setattr(gpu, "_processors", lambda _: 132)
    weights = [like_weights(BY_NAME["Q8_0"], (count, 1536)) for count in (rows, 7, 576)]
    products = [
        gpu.Product(to_planar(weight), torch.empty(8, weight.shape[0])) for weight in weights
    ]
    threads, blocks = gpu._grid(products, tokens, torch.device("cuda"))
    assert sum(blocks) * threads <= 132 * gpu.MOST_THREADS[tokens]
    assert all(1 <= count <= weight.shape[0] for count, weight in zip(blocks, weights, strict=True))


def test_a_matrix_of_few_rows_occupies_every_processor(monkeypatch):
    monkeypatch.setattr(gpu, "_processors", lambda _: 132)
    weight = to_planar(like_weights(BY_NAME["Q4_K"], (2112, 7168)))
    product = gpu.Product(weight, torch.empty(1, 2112))
    assert gpu._grid([product], 1, torch.device("cuda")) == (512, [132])
    assert gpu._warps(weight, 1, 512, 132) == 2
    assert gpu._warps(weight, 8, 448, 66) == 1


@pytest.mark.parametrize(
    ("x", "tokens"),
    [
        (torch.zeros(1, 63), 1),
        (torch.zeros(1, 64, dtype=torch.float16), 1),
        (torch.zeros(1, 64), 2),
        (torch.zeros(9, 64), 9),
        (torch.zeros(1, 64, device="meta"), 1),
        (torch.zeros(1, 65)[:, 1:], 1),
    ],
    ids=["columns", "dtype", "too few", "too many", "device", "alignment"],
)
def test_an_input_that_does_not_fit_is_refused(x, tokens):
    weight = to_planar(like_weights(BY_NAME["Q8_0"], (3, 64)))
    with pytest.raises(KernelInputError):
        gpu.matvec(x, [gpu.Product(weight, torch.empty(tokens, 3))], tokens)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
def test_no_gpu_spills_registers(capability):
    names = [f"matvec<{t}, {name}>" for t in (1, 8) for name in ("Q8_0", "Q4_K", "BF16")]
    for name, needs in cuda_resources("linear/gpu.cu", names, capability).items():
        assert needs.spill_bytes == needs.stack_bytes == 0, name


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
@pytest.mark.parametrize("tokens", gpu.TOKENS)
def test_no_format_spills_registers_anywhere(tokens, capability):
    names = [f"matvec<{tokens}, {known.name}>" for known in FORMATS]
    for name, needs in cuda_resources("linear/gpu.cu", names, capability).items():
        assert needs.spill_bytes == needs.stack_bytes == 0, name
