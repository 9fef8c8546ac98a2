"""The experts' feed-forward as one native job: tokens, parts, formats, tiers, workers, failure."""

import ctypes
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.dequantize.cases import like_weights
from kernels.errors import WorkerFailed
from kernels.expert_ffn import cases, expert_ffn
from kernels.expert_ffn.cpu import Part
from kernels.formats import BY_NAME
from kernels.native import pool, records
from kernels.native.library import library
from kernels.native.tiers import NAMES, here
from kernels.testing import assert_close, assert_same_bits

TIERS = dict(enumerate(NAMES))
FLOATS = ("F32", "F32", "F32")
MIXED = [
    ("Q8_0", "Q8_0", "Q8_0"),
    ("Q4_K", "Q6_K", "Q8_0"),
    ("Q4_K", "Q4_K", "Q5_0"),
    ("IQ4_NL", "Q5_1", "Q4_0"),
    ("Q3_K", "Q8_0", "F16"),
    ("IQ2_XS", "MXFP4", "Q5_K"),
]
every_mixture = pytest.mark.parametrize("formats", MIXED, ids="-".join)
ROUNDINGS = pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounded"])


# Tiles of many tokens take bf16 instead, which is nearer to exact than what is expected here.
BEST_OF_EIGHT_BITS = NAMES.index([name for name in here() if name != "amx"][-1])


@pytest.fixture(autouse=True)
def _workers() -> Iterator[None]:
    """Four, the second and fourth on another node."""
    pool.stop()
    pool.start([-1] * 4, [0, 1, 0, 1])
    yield
    pool.stop()


def experts(formats: Sequence[str], count: int = 5, width: int = 256, length: int = 512) -> Part:
    """Gate, up and down that keep the size of their inputs, whose elements are about 1."""
    shapes = ((count, length, width), (count, length, width), (count, width, length))
    gate, up, down = (
        like_weights(BY_NAME[name], shape, seed)
        for seed, (name, shape) in enumerate(zip(formats, shapes, strict=True))
    )
    return gate, up, down


def routing(tokens: int, count: int, used: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(tokens + count)
    chosen = torch.rand(tokens, count, generator=random).argsort(-1)[:, :used]
    return chosen, torch.rand(tokens, used, generator=random)


def inputs(tokens: int, weights: Part, scale: float = 1e-3) -> Tensor:
    """Small, so that the gate is bent but not shut."""
    random = torch.Generator().manual_seed(tokens)
    return torch.randn(tokens, weights[0].columns, generator=random) * scale


def run(
    x: Tensor,
    parts: Sequence[Part],
    routed: tuple[Tensor, Tensor],
    *,
    exact: bool,
    first: int = 0,
    workers: int = 1,
    tier: int = BEST_OF_EIGHT_BITS,
    memory: float = 1.0,
) -> Tensor:
    """Over a workspace of NaN, of just the size that the library asks for, or a part of it."""
    chosen, share = routed[0].to(torch.int32).contiguous(), routed[1].contiguous()
    record = records.experts(parts, first, chosen.shape[1])
    which, pointer = (tier, records.EXACT if exact else records.ROUNDED), ctypes.byref(record)
    needed = library().hybrid_expert_ffn_bytes(*which, pointer, len(x), workers)
    given = int(needed * memory)
    room = torch.full((needed + 320,), 0xFF, dtype=torch.uint8)
    workspace = room[-room.data_ptr() % 64 :]
    out = torch.zeros_like(x)
    pool.check(
        library().hybrid_expert_ffn(
            *which,
            workers,
            pointer,
            x.data_ptr(),
            len(x),
            chosen.data_ptr(),
            share.data_ptr(),
            out.data_ptr(),
            workspace.data_ptr(),
            given,
        )
    )
    assert bool((workspace[needed:] == 0xFF).all())
    return out


def as_rounded(x: Tensor, weight: BlockTensor) -> Tensor:
    """x as a product with `weight` sees it, float64."""
    run_length = weight.format.block_weights
    if run_length == 1:
        return x.double()
    groups = x.float().reshape(-1, run_length)
    scale = groups.abs().amax(1, keepdim=True) / 127
    inverse = torch.where(scale == 0, 0, 1 / scale)
    return ((groups * inverse).round().double() * scale).reshape(x.shape)


def expected(
    x: Tensor, weights: Part, routed: tuple[Tensor, Tensor], *, exact: bool, first: int = 0
) -> Tensor:
    """In float64, a token and an expert at a time."""
    seen = (lambda x, _: x.double()) if exact else as_rounded
    gate, up, down = weights
    matrices = [dequantize(w, implementation="reference").double() for w in weights]
    out = torch.zeros(x.shape, dtype=torch.float64)
    for t, (chosen, shares) in enumerate(zip(*routed, strict=True)):
        for number, share in zip(chosen.tolist(), shares.double(), strict=True):
            e = number - first
            if 0 <= e < gate.shape[0]:
                bent = torch.nn.functional.silu(matrices[0][e] @ seen(x[t], gate))
                hidden = bent * (matrices[1][e] @ seen(x[t], up))
                out[t] += share * (matrices[2][e] @ seen(hidden, down))
    return out


def allowed(exact: bool) -> float:
    return cases.RELATIVE_ERROR if exact else cases.ROUNDED_AGAIN


@every_mixture
@ROUNDINGS
@pytest.mark.parametrize("tokens", [*range(10), 40])
def test_experts_of_mixed_formats_agree_with_float64(
    formats: Sequence[str], exact: bool, tokens: int
) -> None:
    weights, routed = experts(formats), routing(tokens, 5, 2)
    x = inputs(tokens, weights)
    got = run(x, [weights], routed, exact=exact)
    assert_close(got, expected(x, weights, routed, exact=exact), allowed(exact))


@every_mixture
@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 2, 9, 40])
def test_all_tokens_may_go_to_one_expert(formats: Sequence[str], exact: bool, tokens: int) -> None:
    weights = experts(formats)
    routed = (torch.full((tokens, 1), 3), routing(tokens, 5, 1)[1])
    x = inputs(tokens, weights)
    got = run(x, [weights], routed, exact=exact)
    assert_close(got, expected(x, weights, routed, exact=exact), allowed(exact))


@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 4, 30])
@pytest.mark.parametrize(("first", "count"), [(0, 2), (3, 3), (7, 1)])
def test_experts_that_are_not_held_add_nothing(
    exact: bool, tokens: int, first: int, count: int
) -> None:
    weights, routed = experts(MIXED[1], count), routing(tokens, 8, 3)
    x = inputs(tokens, weights)
    got = run(x, [weights], routed, exact=exact, first=first)
    wanted = expected(x, weights, routed, exact=exact, first=first)
    assert_close(got, wanted, allowed(exact))


@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 3])
def test_tokens_none_of_whose_experts_is_held_stay_as_they_are(exact: bool, tokens: int) -> None:
    weights, (_, share) = experts(MIXED[0], 2), routing(tokens, 8, 2)
    x = inputs(tokens, weights)
    got = run(x, [weights], (torch.tensor([[0, 5]] * tokens), share), exact=exact, first=6)
    assert not got.any()


@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize(("width", "length"), [(33, 17), (65, 95), (31, 1), (1, 64)])
def test_lengths_need_not_be_whole_units_of_rows(
    exact: bool, tokens: int, width: int, length: int
) -> None:
    weights, routed = experts(FLOATS, 4, width, length), routing(tokens, 4, 3)
    x = inputs(tokens, weights, 1.0)
    for workers in (1, 4):
        got = run(x, [weights], routed, exact=exact, workers=workers)
        assert_close(got, expected(x, weights, routed, exact=True), cases.RELATIVE_ERROR)


def cut(weights: Part, at: int) -> list[Part]:
    """Two parts: rows of gate and up before and from `at`, and those columns of down."""
    gate, up, down = weights
    end = down.columns
    return [
        (gate[:, begin:last], up[:, begin:last], columns_of(down, begin, last))
        for begin, last in ((0, at), (at, end))
    ]


def columns_of(weight: BlockTensor, begin: int, end: int) -> BlockTensor:
    known = weight.format
    blocks = weight.blocks[..., known.row_bytes(begin) : known.row_bytes(end)].contiguous()
    return BlockTensor(blocks, known, end - begin)


@pytest.mark.parametrize(("formats", "at"), [(FLOATS, 100), (MIXED[1], 32), (MIXED[5], 256)])
@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 2, 9, 40])
def test_parts_of_two_nodes_are_the_whole(
    formats: Sequence[str], at: int, exact: bool, tokens: int
) -> None:
    weights, routed = experts(formats), routing(tokens, 5, 2)
    x = inputs(tokens, weights)
    parts = cut(weights, at)
    one = run(x, parts, routed, exact=exact)
    assert_close(one, run(x, [weights], routed, exact=exact), allowed(exact))
    for workers in (2, 3):
        assert_same_bits(run(x, parts, routed, exact=exact, workers=workers), one)


@every_mixture
@ROUNDINGS
@pytest.mark.parametrize("tokens", [1, 9])
def test_the_number_of_workers_changes_no_bit(
    formats: Sequence[str], exact: bool, tokens: int
) -> None:
    weights, routed = experts(formats), routing(tokens, 5, 2)
    x = inputs(tokens, weights)
    one = run(x, [weights], routed, exact=exact)
    for workers in (2, 4):
        assert_same_bits(run(x, [weights], routed, exact=exact, workers=workers), one)


@every_mixture
@ROUNDINGS
@pytest.mark.parametrize("tier", list(TIERS)[1:], ids=TIERS.get)
def test_every_tier_computes_nearly_as_the_scalar_one(
    formats: Sequence[str], exact: bool, tier: int
) -> None:
    if not library().hybrid_has_tier(tier):
        pytest.skip(f"this processor has no {TIERS[tier]}")
    weights = experts(formats)
    for tokens in (1, 3, 9, 40):
        x, routed = inputs(tokens, weights), routing(tokens, 5, 2)
        scalar = run(x, [weights], routed, exact=exact, tier=0)
        assert_close(run(x, [weights], routed, exact=exact, tier=tier), scalar, allowed(exact))


@pytest.mark.parametrize("tokens", [1, 9])
def test_memory_too_small_is_an_error_and_the_next_job_works(tokens: int) -> None:
    weights, routed = experts(MIXED[1]), routing(tokens, 5, 2)
    x = inputs(tokens, weights)
    for memory in (0, 0.1, 0.3):
        with pytest.raises(WorkerFailed, match="memory is too small; the call can be made again"):
            run(x, [weights], routed, exact=True, workers=2, memory=memory)
    got = run(x, [weights], routed, exact=True, workers=2)
    assert_close(got, expected(x, weights, routed, exact=True), cases.RELATIVE_ERROR)


@pytest.mark.parametrize(("implementation", "exact"), [("native", True), ("rounded", False)])
def test_the_op_runs_the_job_with_all_workers(implementation: str, exact: bool) -> None:
    weights, routed = experts(MIXED[1]), routing(7, 5, 2)
    x = inputs(7, weights)
    got = expert_ffn(x, *weights, *routed, implementation=implementation)
    assert_same_bits(got, run(x, [weights], routed, exact=exact, workers=4))
