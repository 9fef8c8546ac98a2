"""A block as one native job: against its reference, by tier, by workers, within its memory."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels.errors import KernelInputError, WorkerFailed
from kernels.latent_block import (
    BlockChain,
    CacheMemory,
    LatentBlock,
    LatentWeights,
    Watched,
    cases,
    reference,
)
from kernels.latent_block.cases import Case
from kernels.native import pool
from kernels.native.library import library
from kernels.native.tiers import NAMES
from kernels.testing import assert_close, assert_same_bits

TIERS = dict(enumerate(NAMES))
every_case = pytest.mark.parametrize("case", cases.SMALL.values(), ids=cases.SMALL.keys())
every_pass = pytest.mark.parametrize(("tokens", "start"), cases.PASSES)
GUARD = 256  # bytes after a workspace


@pytest.fixture(autouse=True)
def _workers() -> Iterator[None]:
    """New for each test: no scratch but what it asks for."""
    pool.stop()
    pool.start([-1] * 4, [0] * 4)
    yield
    pool.stop()


def filled_cache(case: Case, name: str, tokens: int, start: int) -> CacheMemory:
    """Random rows before `start`, NaN from there on, and one row more than a pass may write."""
    cache = cases.cache_of(case, name, start + tokens + 1)
    earlier = torch.randn(
        start, case.latent + case.rope, generator=torch.Generator().manual_seed(8)
    )
    if start:
        reference.write(cache, 0, earlier)
    return cache


def copy_of(cache: CacheMemory) -> CacheMemory:
    return replace(cache, rows=cache.rows.clone())


def workspace_of(nbytes: int) -> Tensor:
    """NaN in every float; GUARD bytes more than asked for."""
    room = torch.full((nbytes + GUARD + 64,), 0xFF, dtype=torch.uint8)
    return room[-room.data_ptr() % 64 :][: nbytes + GUARD]


def run(
    block: LatentBlock,
    case: Case,
    cache: CacheMemory,
    tokens: int,
    start: int,
    workers: int = 1,
) -> Tensor:
    """The output of a pass over poisoned memory of just the size that the block asked for."""
    shared, own = block.needs(tokens, start + tokens, workers)
    pool.reserve(own)
    turn = cases.rotation_of(case, tokens, start)
    hidden = torch.full((tokens, case.width), torch.nan)
    for values in (hidden.clone(), cases.hidden_of(case, tokens)):  # NaN first: into the scratch
        workspace = workspace_of(shared)
        hidden.copy_(values)
        BlockChain([block], [cache])(hidden, start, turn, workspace[:shared], workers)
        assert bool((workspace[shared:] == 0xFF).all())
    assert bool((cache.rows[start + tokens :] == 0xFF).all())
    return hidden


def expected(
    case: Case, weights: LatentWeights, cache: CacheMemory, tokens: int, start: int
) -> Tensor:
    hidden, frequency = cases.hidden_of(case, tokens), cases.frequency_of(case)
    return reference.latent_block(cases.shape_of(case), weights, hidden, start, cache, frequency)


@every_case
@every_pass
@pytest.mark.parametrize("cache_name", cases.RELATIVE_ERROR)
def test_an_exact_block_is_its_reference(
    case: Case, tokens: int, start: int, cache_name: str
) -> None:
    weights = cases.weights_of(case)
    block = LatentBlock(cases.shape_of(case), weights, exact=True)
    cache = filled_cache(case, cache_name, tokens, start)
    other = copy_of(cache)
    got = run(block, case, cache, tokens, start)
    allowed = cases.RELATIVE_ERROR[cache_name]
    assert_close(got, expected(case, weights, other, tokens, start), allowed)
    length = case.latent + case.rope
    rows = reference.read(cache, start + tokens, length)
    assert_close(rows, reference.read(other, start + tokens, length), allowed)


@every_case
@every_pass
def test_a_rounded_block_is_within_eight_bits_of_its_reference(
    case: Case, tokens: int, start: int
) -> None:
    weights = cases.weights_of(case, settled=True)
    block = LatentBlock(cases.shape_of(case), weights)
    cache = filled_cache(case, "F16", tokens, start)
    other = copy_of(cache)
    got = run(block, case, cache, tokens, start)
    assert_close(got, expected(case, weights, other, tokens, start), cases.ROUNDED_ERROR)


@every_case
@pytest.mark.parametrize(("tokens", "start"), [(1, 37), (2, 37), (40, 37)])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounded"])
def test_results_do_not_depend_on_the_number_of_workers(
    case: Case, tokens: int, start: int, exact: bool
) -> None:
    block = LatentBlock(cases.shape_of(case), cases.weights_of(case), exact=exact)
    found = []
    for workers in (1, 2, 4):
        cache = filled_cache(case, "F16", tokens, start)
        found.append((run(block, case, cache, tokens, start, workers), cache.rows))
    for hidden, rows in found[1:]:
        assert_same_bits(hidden, found[0][0])
        assert torch.equal(rows, found[0][1])


@pytest.mark.parametrize("tokens", [1, 3, 9])
@pytest.mark.parametrize("name", ["Q8_0, always absorbed", "plain floats, dense"])
def test_a_long_context_may_be_cut_and_joined(name: str, tokens: int) -> None:
    case = replace(cases.SMALL[name], absorb_up_to=1 << 20)
    weights = cases.weights_of(case)
    block = LatentBlock(cases.shape_of(case), weights, exact=True)
    for workers in (1, 4):
        cache = filled_cache(case, "F32", tokens, 1300)
        other = copy_of(cache)
        got = run(block, case, cache, tokens, 1300, workers)
        wanted = expected(case, weights, other, tokens, 1300)
        assert_close(got, wanted, cases.RELATIVE_ERROR["F32"])


@every_case
def test_beyond_the_rows_that_are_expanded_attention_is_absorbed(case: Case) -> None:
    tokens, start = 9, 37
    weights = cases.weights_of(case)
    found = []
    for few, rows in ((8, tokens + start - 1), (tokens, 4096), (8, tokens + start)):
        shape = replace(cases.shape_of(case), absorb_up_to=few, expand_up_to=rows)
        cache = filled_cache(case, "F32", tokens, start)
        found.append(run(LatentBlock(shape, weights, exact=True), case, cache, tokens, start))
    assert_same_bits(found[0], found[1])
    assert not torch.equal(found[0], found[2])  # expanded: sums in another order


@every_case
@pytest.mark.parametrize("tier", list(TIERS)[1:], ids=TIERS.get)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounded"])
def test_every_tier_computes_nearly_as_the_scalar_one(case: Case, tier: int, exact: bool) -> None:
    if not library().hybrid_has_tier(tier):
        pytest.skip(f"this processor has no {TIERS[tier]}")
    weights = cases.weights_of(case, settled=True)
    tiles = TIERS[tier] == "amx" and not exact
    allowed = cases.TILES_ERROR if tiles else cases.TIER_ERROR[exact]
    for tokens, start in cases.PASSES:
        found = []
        for number in (0, tier):
            block = LatentBlock(cases.shape_of(case), weights, exact=exact, tier=number)
            cache = filled_cache(case, "F32", tokens, start)
            found.append(run(block, case, cache, tokens, start))
        assert_close(found[1], found[0], allowed)


@every_case
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounded"])
def test_fewer_tokens_and_rows_never_need_more(case: Case, exact: bool) -> None:
    block = LatentBlock(cases.shape_of(case), cases.weights_of(case), exact=exact)
    for most in (case.absorb_up_to, 40):
        for seen in (40, 700):
            shared, own = block.needs(most, seen, 64)
            for tokens in range(2, most if most < seen else 8):
                less = block.needs(tokens, max(tokens, seen // 2), 64)
                if most > case.absorb_up_to >= tokens:
                    continue  # another form of attention
                assert less[0] <= shared
                assert less[1] <= own


def test_memory_too_small_is_an_error_and_the_next_pass_works() -> None:
    case = cases.SMALL["Q8_0, routed by groups, shared"]
    weights = cases.weights_of(case)
    block = LatentBlock(cases.shape_of(case), weights, exact=True)
    cache = filled_cache(case, "F32", 9, 0)
    shared, own = block.needs(9, 9, 2)
    pool.reserve(own)
    hidden, turn = cases.hidden_of(case, 9), cases.rotation_of(case, 9, 0)
    for nbytes in (
        0,
        shared // 32,
        shared // 16,
        shared // 8,
    ):  # found wanting in ever later phases
        with pytest.raises(WorkerFailed, match=r"memory is too small; the call can be made again"):
            BlockChain([block], [cache])(hidden.clone(), 0, turn, workspace_of(shared)[:nbytes], 2)
    cache = filled_cache(case, "F32", 9, 0)
    other = copy_of(cache)
    got = run(block, case, cache, 9, 0)
    assert_close(got, expected(case, weights, other, 9, 0), cases.RELATIVE_ERROR["F32"])


@pytest.mark.parametrize("name", ["query", "compress", "key", "value_up", "output"])
def test_a_matrix_of_another_shape_is_refused(name: str) -> None:
    case = cases.SMALL["plain floats, dense"]
    weights = cases.weights_of(case)
    short = {name: getattr(weights, name)[:0]}
    with pytest.raises(KernelInputError, match=f"{name} must be"):
        LatentBlock(cases.shape_of(case), replace(weights, **short))


def test_a_block_without_a_feed_forward_or_with_other_norms_is_refused() -> None:
    case = cases.SMALL["plain floats, dense"]
    shape, weights = cases.shape_of(case), cases.weights_of(case)
    with pytest.raises(KernelInputError, match="a dense feed-forward, experts, or both"):
        LatentBlock(shape, replace(weights, dense=None))
    short = weights.attention_norm[:1].contiguous()
    for name, norm in (("latent_norm", weights.latent_norm.double()), ("attention_norm", short)):
        with pytest.raises(KernelInputError, match=f"{name} must be"):
            LatentBlock(shape, replace(weights, **{name: norm}))
    down = weights.dense.down
    with pytest.raises(KernelInputError, match="down must be"):
        LatentBlock(shape, replace(weights, dense=replace(weights.dense, down=down[:1])))


def test_a_pass_beyond_its_cache_or_of_another_width_is_refused() -> None:
    case = cases.SMALL["plain floats, dense"]
    cache = filled_cache(case, "F32", 2, 3)
    chain = BlockChain([LatentBlock(cases.shape_of(case), cases.weights_of(case))], [cache])
    turn, memory = cases.rotation_of(case, 2, 3), torch.empty(64, dtype=torch.uint8)
    with pytest.raises(KernelInputError, match="cache rows"):
        chain(torch.zeros(2, case.width), 1_000_000, turn, memory, 1)
    with pytest.raises(KernelInputError, match="hidden must be"):
        chain(torch.zeros(2, case.width + 1), 3, turn, memory, 1)
    with pytest.raises(KernelInputError, match="cos and sin"):
        chain(torch.zeros(3, case.width), 0, turn, memory, 1)


@every_case
@pytest.mark.parametrize("tokens", [1, 5])
def test_a_watched_pass_leaves_marks_in_order_and_counts_its_choices(
    case: Case, tokens: int
) -> None:
    block = LatentBlock(cases.shape_of(case), cases.weights_of(case))
    cache, turn = filled_cache(case, "F32", tokens, 3), cases.rotation_of(case, tokens, 3)
    shared, own = block.needs(tokens, 3 + tokens, 2)
    pool.reserve(own)
    alone, hidden = cases.hidden_of(case, tokens), cases.hidden_of(case, tokens)
    BlockChain([block], [cache])(alone, 3, turn, workspace_of(shared), 2)
    experts, used = (case.rules.experts, case.rules.used) if case.rules else (1, 0)
    watched = Watched(1, experts)
    watched.usage += 1
    pool.clocks(True)
    BlockChain([block], [cache])(hidden, 3, turn, workspace_of(shared), 2, watched)
    spent = pool.experts_seconds(2)
    pool.clocks(False)
    assert torch.equal(hidden, alone)
    begin, attended, end = watched.marks.tolist()
    assert 0 < begin < attended < end
    assert watched.usage.sum() == experts + tokens * used
    for seconds in spent:
        assert (0 < seconds < (end - attended) * 1e-9) if case.rules else seconds == 0


def test_clocks_count_nothing_once_they_are_off() -> None:
    case = next(case for case in cases.SMALL.values() if case.rules)
    pool.clocks(True)
    pool.clocks(False)
    run(
        LatentBlock(cases.shape_of(case), cases.weights_of(case)),
        case,
        filled_cache(case, "F32", 1, 3),
        1,
        3,
    )
    assert pool.experts_seconds(1) == [0.0]
    with pytest.raises(KernelInputError, match="more threads"):
        pool.experts_seconds(pool.threads() + 1)
