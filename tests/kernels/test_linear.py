import pytest
import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME, FORMATS
from kernels.linear import IMPLEMENTATIONS, cases, linear, reference
from kernels.native import pool
from kernels.testing import assert_close, assert_same_bits, poisoned_memory

every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
MANY = 40  # tokens for which every product packs them


@pytest.fixture
def four_workers():
    pool.start([-1] * 4, [0] * 4)
    yield
    pool.stop()


def in_double(x, weight):
    return x.double() @ dequantize(weight, implementation="reference").double().T


def some_x(tokens, columns):
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens))


def as_rounded(x, known):
    """x as "rounded" multiplies it: int8 times one scale for each run of a block's length."""
    if known.block_weights == 1:
        return x
    groups = x.reshape(-1, known.block_weights)
    scale = groups.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, 0, 1 / scale)
    return ((groups * inverse).round().double() * scale).reshape(x.shape)


@every_format
@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize(("tokens", "rows", "blocks"), cases.SMALL)
def test_agrees_with_double_precision(known, implementation, tokens, rows, blocks):
    weight = like_weights(known, (rows, blocks * known.block_weights))
    x = some_x(tokens, weight.columns)
    with poisoned_memory():
        got = linear(x, weight, implementation=implementation)
    assert_close(got, in_double(x, weight), cases.RELATIVE_ERROR)


@every_format
@pytest.mark.parametrize(("tokens", "rows", "blocks"), cases.SMALL)
def test_rounded_is_the_product_of_the_rounded_activations(known, tokens, rows, blocks):
    weight = like_weights(known, (rows, blocks * known.block_weights))
    x = some_x(tokens, weight.columns)
    if known.name == "BF16":
        x = x.bfloat16().float()  # some processors multiply these alone
    with poisoned_memory():
        got = linear(x, weight, implementation="rounded")
    assert_close(got, in_double(as_rounded(x, known), weight), cases.RELATIVE_ERROR)


@pytest.mark.parametrize("known", FORMATS[:2], ids=lambda known: known.name)
@pytest.mark.parametrize("columns", [1, 15, 17, 255, 257, 300])
def test_plain_floats_have_rows_of_any_length(known, columns):
    weight = like_weights(known, (5, columns))
    x = some_x(3, columns)
    assert_close(linear(x, weight), in_double(x, weight), cases.RELATIVE_ERROR)


@pytest.mark.parametrize("name", ["Q5_0", "Q8_0", "IQ4_NL"])
def test_rows_that_end_inside_256_weights(name):
    weight = like_weights(BY_NAME[name], (9, 352))
    x = some_x(2, weight.columns)
    assert_close(linear(x, weight), in_double(x, weight), cases.RELATIVE_ERROR)


@pytest.mark.parametrize("tokens", [2, MANY])
def test_strided_tokens_and_rows_are_read_in_place(tokens):
    weight = like_weights(BY_NAME["Q6_K"], (12, 512))[1::3]
    x = some_x(tokens, 1024)[:, 128:640]
    assert_close(linear(x, weight), in_double(x, weight), cases.RELATIVE_ERROR)
    assert_close(
        linear(some_x(512, tokens).T, weight),
        in_double(some_x(512, tokens).T, weight),
        cases.RELATIVE_ERROR,
    )


@pytest.mark.parametrize("tokens", [1, MANY])
@pytest.mark.parametrize("implementation", ["native", "rounded"])
def test_a_row_is_summed_alike_whoever_sums_it(tokens, implementation, four_workers):
    weight = like_weights(BY_NAME["Q4_K"], (1031, 2048))
    x = some_x(tokens, weight.columns)
    with poisoned_memory():
        whole = linear(x, weight, implementation=implementation)
    pool.stop()
    assert pool.threads() == 1
    assert_same_bits(linear(x, weight, implementation=implementation), whole)
    part = linear(x, weight[992:1010], implementation=implementation)
    assert_same_bits(part, whole[:, 992:1010])


def test_workers_share_rows_without_a_seam(four_workers):
    weight = like_weights(BY_NAME["Q4_K"], (1031, 2048))
    x = some_x(3, weight.columns)
    with poisoned_memory():
        got = linear(x, weight)
    assert_close(got, in_double(x, weight), cases.RELATIVE_ERROR)


def test_the_reference_decodes_a_matrix_in_several_parts(monkeypatch):
    monkeypatch.setattr(reference, "PART_WEIGHTS", 3 * 512)
    weight = like_weights(BY_NAME["Q8_0"], (11, 512))
    x = some_x(9, 512)
    with poisoned_memory():
        got = linear(x, weight, implementation="reference")
    assert_close(got, in_double(x, weight), cases.RELATIVE_ERROR)


@every_implementation
@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("rows", [0, 3])
def test_no_tokens_or_no_rows_give_empty_results(implementation, tokens, rows):
    weight = like_weights(BY_NAME["Q8_0"], (3, 64))[:rows]
    assert linear(some_x(tokens, 64), weight, implementation=implementation).shape == (tokens, rows)


def test_an_infinite_input_reaches_every_row_and_no_other_token():
    weight = like_weights(BY_NAME["F32"], (4, 32))
    x = some_x(2, 32)
    x[0, 5] = torch.inf
    y = linear(x, weight)
    assert not y[0].isfinite().any()
    assert y[1].isfinite().all()


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(1, 63),
        torch.zeros(1, 64, dtype=torch.float16),
        torch.zeros(64),
        torch.zeros(1, 64, device="meta"),
    ],
    ids=["columns", "dtype", "one dimension", "device"],
)
def test_an_input_that_does_not_fit_is_refused(x):
    with pytest.raises(KernelInputError, match="x "):
        linear(x, like_weights(BY_NAME["Q8_0"], (3, 64)))


def test_a_weight_that_is_no_matrix_is_refused():
    with pytest.raises(KernelInputError, match="weight must be"):
        linear(torch.zeros(1, 64), like_weights(BY_NAME["Q8_0"], (2, 3, 64)))


@pytest.mark.gpu
@every_format
def test_a_gpu_agrees_with_double_precision(known):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    weight = like_weights(known, (33, 3 * known.block_weights))
    x = some_x(5, weight.columns)
    on_gpu = BlockTensor(weight.blocks.cuda(), known, weight.columns)
    assert_close(linear(x.cuda(), on_gpu), in_double(x, weight), cases.RELATIVE_ERROR)
