import pytest
import torch

from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME
from kernels.head_linear import cases, head_linear
from kernels.testing import assert_close, poisoned_memory

names = pytest.mark.parametrize("name", ["F32", "BF16", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
both_ways = pytest.mark.parametrize("transposed", [False, True], ids=["straight", "transposed"])


def in_double(x, weight, transposed):
    matrices = dequantize(weight, implementation="reference").double()
    if transposed:
        matrices = matrices.transpose(1, 2)
    tokens = [
        [matrix @ (t[0] if len(t) == 1 else t[h]) for h, matrix in enumerate(matrices)]
        for t in x.double()
    ]
    return torch.stack([torch.stack(heads) for heads in tokens])


def some_x(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@names
@both_ways
@pytest.mark.parametrize(("tokens", "heads", "rows", "blocks"), cases.SMALL)
def test_agrees_with_double_precision(name, transposed, tokens, heads, rows, blocks):
    known = BY_NAME[name]
    weight = like_weights(known, (heads, rows, blocks * known.block_weights))
    x = some_x(tokens, heads, rows if transposed else weight.columns)
    with poisoned_memory():
        got = head_linear(x, weight, transposed=transposed)
    assert_close(got, in_double(x, weight, transposed), cases.RELATIVE_ERROR)


@both_ways
def test_one_input_serves_every_head(transposed):
    weight = like_weights(BY_NAME["Q8_0"], (5, 7, 64))
    x = some_x(3, 1, 7 if transposed else 64)
    got = head_linear(x, weight, transposed=transposed)
    assert_close(got, in_double(x, weight, transposed), cases.RELATIVE_ERROR)


@both_ways
@pytest.mark.parametrize("rows", [slice(0, 6), slice(6, 10)], ids=["keys", "values"])
@pytest.mark.parametrize("heads", [slice(None), slice(1, 3)], ids=["all heads", "two heads"])
def test_a_cut_of_every_heads_rows(transposed, rows, heads):
    """attn_kv_b holds key and value rows of a head one after the other."""
    weight = like_weights(BY_NAME["Q4_K"], (4, 10, 512))[heads, rows]
    x = some_x(3, weight.shape[0], weight.shape[1] if transposed else 512)
    got = head_linear(x, weight, transposed=transposed)
    assert_close(got, in_double(x, weight, transposed), cases.RELATIVE_ERROR)


@both_ways
def test_inputs_may_be_strided(transposed):
    weight = like_weights(BY_NAME["Q8_0"], (4, 6, 64))
    x = some_x(4, 3, 200)[..., 10 : 10 + (6 if transposed else 64)].transpose(0, 1)
    got = head_linear(x, weight, transposed=transposed)
    assert_close(got, in_double(x, weight, transposed), cases.RELATIVE_ERROR)


def test_no_tokens_give_an_empty_result():
    weight = like_weights(BY_NAME["Q8_0"], (4, 6, 64))
    assert head_linear(some_x(0, 4, 64), weight).shape == (0, 4, 6)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 4, 6),
        torch.zeros(2, 3, 64),
        torch.zeros(4, 64),
        torch.zeros(2, 4, 64, dtype=torch.float64),
        torch.zeros(2, 4, 64, device="meta"),
    ],
    ids=["rows for columns", "heads", "two dimensions", "dtype", "device"],
)
def test_an_input_that_does_not_fit_is_refused(x):
    with pytest.raises(KernelInputError, match="x "):
        head_linear(x, like_weights(BY_NAME["Q8_0"], (4, 6, 64)))


def test_a_weight_without_heads_is_refused():
    with pytest.raises(KernelInputError, match="weight must be"):
        head_linear(torch.zeros(1, 1, 64), like_weights(BY_NAME["Q8_0"], (6, 64)))
