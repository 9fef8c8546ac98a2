"""Products with many tokens, of every format in every tier, against the decoded weights.

The tile unit is rare: where it lacks, one slow test runs its tier's code with the unit emulated.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME, FORMATS, BlockFormat
from kernels.native.file import FILE_NAME
from kernels.native.library import library, load
from kernels.native.tiers import NAMES

TIERS = dict(enumerate(NAMES))
every_format = pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
every_tier = pytest.mark.parametrize("tier", TIERS, ids=TIERS.get)
SHAPES = [(1, 1, 1), (3, 16, 2), (17, 33, 3), (33, 70, 1), (40, 49, 5), (5, 65, 2)]
PLAIN = ("F32", "F16", "BF16")
POISON = float("nan")


SOURCES = Path(__file__).parents[2] / "kernels" / "native"
AMX = 4


def here(tier: int) -> int:
    if not library().hybrid_has_tier(tier):
        pytest.skip(f"this processor has no {TIERS[tier]}")
    return tier


def aligned(nbytes: int) -> Tensor:
    memory = torch.full([nbytes + 64], 0xFF, dtype=torch.uint8)  # floats of it are NaN
    return memory[-memory.data_ptr() % 64 :][:nbytes]


def some_x(tokens: int, columns: int) -> Tensor:
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens))


def product(
    tier: int,
    exact: bool,
    weight: BlockTensor,
    x: Tensor,
    index: Tensor | None = None,
    native: ctypes.CDLL | None = None,
) -> Tensor:
    """x[index] times weight; what lies beside y must stay as it was."""
    native = native or library()
    which = (tier, weight.format.ggml_id, exact)
    (rows, columns), tokens = weight.shape, len(x if index is None else index)
    packed = aligned(native.hybrid_product_packed_bytes(*which, columns, tokens))
    scratch = aligned(native.hybrid_product_scratch_bytes(*which, columns))
    tiles = (tokens + 15) // 16
    chosen = index.data_ptr() if index is not None else None
    for begin, end in ((0, tiles // 2), (tiles // 2, tiles)):
        native.hybrid_product_pack(
            *which,
            x.data_ptr(),
            x.stride(0),
            columns,
            chosen,
            tokens,
            begin,
            end,
            packed.data_ptr(),
        )
    y = torch.full((tokens, rows + 2), POISON)
    native.hybrid_product_multiply(
        *which,
        weight.blocks.data_ptr(),
        weight.blocks.stride(0),
        0,
        rows,
        columns,
        packed.data_ptr(),
        tokens,
        scratch.data_ptr(),
        y[:, 1:].data_ptr(),
        rows + 2,
    )
    assert y[:, 0].isnan().all()
    assert y[:, -1].isnan().all()
    return y[:, 1:-1]


def rounded(x: Tensor, block_weights: int) -> Tensor:
    """x as the dot products see it: int8 times one scale for 32 or 256 neighbours."""
    groups = x.reshape(-1, block_weights)
    scale = groups.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, 0, 1 / scale)
    return ((groups * inverse).round().double() * scale).reshape(x.shape)


def in_bf16(known: BlockFormat, tier: int, tokens: int) -> bool:
    """Whether rounded products multiply both sides as bf16: BF16, and many tokens by tiles."""
    if known.name in PLAIN:
        return known.name == "BF16" and tier >= 3
    return tier == AMX and tokens >= (32 if known.block_weights == 256 else 48)


def seen_by(known: BlockFormat, tier: int, x: Tensor) -> Tensor:
    if in_bf16(known, tier, len(x)):
        return x.bfloat16()
    return x if known.name in PLAIN else rounded(x, known.block_weights)


def expected_rounded(tier: int, weight: BlockTensor, x: Tensor) -> Tensor:
    """The product of what the tier multiplies, exactly."""
    weights = dequantize(weight, implementation="reference")
    if in_bf16(weight.format, tier, len(x)):
        weights = weights.bfloat16()
    return seen_by(weight.format, tier, x).double() @ weights.double().T


def expected(weight: BlockTensor, x: Tensor) -> Tensor:
    return x.double() @ dequantize(weight, implementation="reference").double().T


def assert_near(got: Tensor, wanted: Tensor, relative: float) -> None:
    assert (got - wanted).abs().max() <= relative * wanted.abs().max()


@every_format
@every_tier
@pytest.mark.parametrize(("rows", "tokens", "blocks"), SHAPES)
def test_rounded_products_are_those_of_the_rounded_activations(known, tier, rows, tokens, blocks):
    weight = like_weights(known, (rows, blocks * known.block_weights))
    x = some_x(tokens, weight.columns)
    got = product(here(tier), False, weight, x)
    assert_near(got, expected_rounded(tier, weight, x), 1e-5)


@every_format
@every_tier
@pytest.mark.parametrize(("rows", "tokens", "blocks"), SHAPES[2:4])
def test_exact_products_keep_float32_activations(known, tier, rows, tokens, blocks):
    weight = like_weights(known, (rows, blocks * known.block_weights))
    x = some_x(tokens, weight.columns)
    assert_near(product(here(tier), True, weight, x), expected(weight, x), 1e-5)


@every_tier
@pytest.mark.parametrize("name", ["Q8_0", "Q4_1", "Q4_K", "Q6_K", "F16", "BF16"])
@pytest.mark.parametrize("exact", [False, True])
def test_tokens_may_be_chosen_from_rows_far_apart(tier, name, exact):
    known = BY_NAME[name]
    weight = like_weights(known, (50, 1056 if known.block_weights < 256 else 1280))
    table = some_x(30, 2000)[:, 40 : 40 + weight.columns]
    index = torch.randint(30, (37,), dtype=torch.int32, generator=torch.Generator().manual_seed(1))
    got = product(here(tier), exact, weight, table, index)
    assert torch.equal(got, product(tier, exact, weight, table[index.long()].contiguous()))


@every_tier
@pytest.mark.parametrize("columns", [1, 31, 65, 257, 300])
def test_plain_floats_have_rows_of_any_length(tier, columns):
    for name in PLAIN:
        weight = like_weights(BY_NAME[name], (19, columns))
        x = some_x(18, columns).bfloat16().float()
        for exact in (False, True):
            assert_near(product(here(tier), exact, weight, x), expected(weight, x), 1e-5)


@every_tier
def test_no_tokens_and_no_rows_are_nothing(tier):
    weight = like_weights(BY_NAME["Q4_K"], (4, 256))
    assert product(here(tier), False, weight, some_x(0, 256)).shape == (0, 4)
    empty = BlockTensor(weight.blocks[:0], weight.format, 256)
    assert product(tier, False, empty, some_x(3, 256)).shape == (3, 0)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The library with loops for tile instructions."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not here")
    build = tmp_path_factory.mktemp("emulated")
    for command in (
        [cmake, "-S", SOURCES, "-B", build, "-DHYBRID_EMULATE_AMX=ON"],
        [cmake, "--build", build, "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    loaded = load(build / FILE_NAME)
    if not loaded.hybrid_has_tier(AMX):
        pytest.skip("this processor has no AVX-512 for the code around the emulated unit")
    return loaded


@pytest.mark.slow
def test_the_tile_unit_s_code_agrees_where_the_unit_is_emulated(emulated):
    for known in FORMATS:
        for rows, tokens, blocks in SHAPES:
            weight = like_weights(known, (rows, blocks * known.block_weights))
            x = some_x(tokens, weight.columns)
            got = product(AMX, False, weight, x, native=emulated)
            assert_near(got, expected_rounded(AMX, weight, x), 1e-5)
