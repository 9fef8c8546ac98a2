"""The Triton kernels of attention, interpreted at small sizes against float64.

bfloat16 arithmetic is wrong in Triton's interpreter; `test_attention_on_gpu.py` has its cases.
"""

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from kernels.attention import cases, reference
from kernels.attention.cases import Case
from kernels.attention.gpu_plan import PromptTiles, Splits, Tiles, split_cap
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.errors import KernelInputError
from kernels.quantize import Q8_0, quantize_q8_0
from kernels.testing import assert_close
from tests.kernels import interpreted_attention as interpreted
from tests.kernels.interpreted_attention import Outcome, Step

SCALE = 0.17
HALF_ERROR = 2e-3  # float16 rows, queries and weights
LATENT, ROPE, HEADS = 32, 8, 2
SHORT = Splits(cap=4)
HOPPER = Tiles(heads=16, rows=16, stages=1, warps=4, bulk=True)


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + len(shape)))


def step(seen: list[int], heads: int = HEADS, dtype: torch.dtype = torch.float16) -> Step:
    """A step over random rows, as many as the longest of `seen` needs and some more."""
    rows = random(max(seen) + 20, LATENT + ROPE)
    cache = encoded(rows, dtype)
    q = random(len(seen), heads, LATENT + ROPE)
    return Step(q, cache, torch.tensor(seen, dtype=torch.int32), SCALE, LATENT, SHORT)


def encoded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype != torch.uint8:
        return rows.to(dtype)
    padded = -rows.shape[-1] % Q8_0.block_weights
    return quantize_q8_0(torch.nn.functional.pad(rows, (0, padded))).blocks


def expected(given: Step) -> Tensor:
    """Attention of every token over the rows it sees, from the cache as it is stored."""
    cache, width = given.cache, given.q.shape[-1]
    if cache.dtype == torch.uint8:
        columns = cache.shape[-1] // Q8_0.block_bytes * Q8_0.block_weights
        cache = dequantize(BlockTensor(cache, Q8_0, columns))[:, :width]
    out = []
    for token, seen in enumerate(given.seen.tolist()):
        first = 0 if given.first_row is None else int(given.first_row[token])
        rows = cache[first : first + seen].double()
        q = given.q[token : token + 1].double().split([given.latent, width - given.latent], -1)
        out.append(reference.absorbed_attention(*q, rows, given.scale, seen - 1))
    return torch.cat(out)


def run(interpreter: ProcessPoolExecutor, given: Step) -> Outcome:
    return interpreter.submit(interpreted.decode, given).result()


@pytest.mark.parametrize("seen", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
def test_splits_merge_to_attention(
    interpreter: ProcessPoolExecutor, tiles: Tiles, seen: int
) -> None:
    given = replace(step([seen]), tiles=tiles)
    assert_close(run(interpreter, given).out, expected(given), HALF_ERROR)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.uint8, HALF_ERROR)])
def test_other_caches_give_attention_over_what_they_hold(
    interpreter: ProcessPoolExecutor, dtype: torch.dtype, error: float
) -> None:
    given = step([70, 3], dtype=dtype)
    assert_close(run(interpreter, given).out, expected(given), error)


@pytest.mark.parametrize("latent", [24, 40])
@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8], ids=str)
def test_a_latent_part_may_end_inside_a_block(
    interpreter: ProcessPoolExecutor, latent: int, dtype: torch.dtype
) -> None:
    cache = encoded(random(40, latent + 6), dtype)
    q = random(1, 3, latent + 6)
    given = Step(q, cache, torch.tensor([37], dtype=torch.int32), SCALE, latent, SHORT)
    assert_close(run(interpreter, given).out, expected(given), HALF_ERROR)


@pytest.mark.parametrize("cap", [1, 2, 3, 5])
def test_any_number_of_splits_gives_the_same(interpreter: ProcessPoolExecutor, cap: int) -> None:
    given = replace(step([290]), splits=Splits(cap))
    outcome = run(interpreter, given)
    assert_close(outcome.out, expected(given), HALF_ERROR)
    used = outcome.statistics[0, 0, :, 0].isfinite()
    assert used.tolist() == [split < Splits(cap).count(290) for split in range(cap)]


@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
def test_surplus_splits_write_nothing(interpreter: ProcessPoolExecutor, tiles: Tiles) -> None:
    outcome = run(interpreter, replace(step([65]), tiles=tiles))
    assert outcome.partial[:, :, :2].isfinite().all()
    assert outcome.statistics[:, :, :2].isfinite().all()
    assert outcome.partial[:, :, 2:].isnan().all()
    assert outcome.statistics[:, :, 2:].isnan().all()


@pytest.mark.parametrize("heads", [1, 5, 20])
@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
def test_any_number_of_heads(interpreter: ProcessPoolExecutor, heads: int, tiles: Tiles) -> None:
    given = replace(step([66], heads=heads), tiles=tiles)
    assert_close(run(interpreter, given).out, expected(given), HALF_ERROR)


@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
def test_every_token_sees_its_own_length_and_sequence(
    interpreter: ProcessPoolExecutor, tiles: Tiles
) -> None:
    first = torch.tensor([0, 90, 17])
    given = replace(step([65, 30, 100]), first_row=first, tiles=tiles)
    assert_close(run(interpreter, given).out, expected(given), HALF_ERROR)


@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
def test_rows_not_seen_do_not_matter(interpreter: ProcessPoolExecutor, tiles: Tiles) -> None:
    given = replace(step([70]), tiles=tiles)
    before = run(interpreter, given).out
    given.cache[70:] = 6e4
    assert torch.equal(run(interpreter, given).out, before)


@pytest.mark.parametrize("tiles", [interpreted.NARROW, HOPPER], ids=["rows", "bulk"])
@pytest.mark.parametrize("size", [1e6, 1e-6])
def test_queries_beyond_float16_keep_their_heads_range(
    interpreter: ProcessPoolExecutor, tiles: Tiles, size: float
) -> None:
    given = step([80])
    given.q[:, 0] *= size
    given = replace(given, scale=SCALE / size, tiles=tiles)
    assert_close(run(interpreter, given).out, expected(given), HALF_ERROR)


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_both_forms_agree_with_float64(interpreter: ProcessPoolExecutor, case: Case) -> None:
    seen = case.start + case.tokens
    q_latent, q_rope = random(case.tokens, case.heads, case.latent + case.rope).split(
        [case.latent, case.rope], -1
    )
    absorbed = (q_latent, q_rope, random(seen, case.latent + case.rope))
    expanded = (
        random(case.tokens, case.heads, case.nope + case.rope),
        random(seen, case.heads, case.nope),
        random(seen, case.rope),
        random(seen, case.heads, case.value, seed=8),
    )
    for form, inputs in (("absorbed", absorbed), ("expanded", expanded)):
        function = getattr(interpreted, form)
        found = interpreter.submit(function, *inputs, SCALE, case.start).result()
        meant = getattr(reference, f"{form}_attention")
        exact = meant(*(each.double() for each in inputs), SCALE, case.start)
        assert_close(found, exact, cases.RELATIVE_ERROR)


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize(("tokens", "start"), [(1, 0), (37, 0), (20, 45), (33, 31)])
def test_prompts_see_what_is_before_them(
    interpreter: ProcessPoolExecutor, tokens: int, start: int, bulk: bool
) -> None:
    q = random(tokens, 2, 48).half()
    k_nope, k_rope = random(start + tokens, 2, 32).half(), random(start + tokens, 16).half()
    v = random(start + tokens, 2, 16, seed=9).half()
    tiles = PromptTiles(queries=16, keys=16, stages=1, warps=4, bulk=bulk)
    given = (q, k_nope, k_rope, v)
    found = interpreter.submit(interpreted.prompt, given, SCALE, start, tiles).result()
    exact = reference.expanded_attention(*(each.double() for each in given), SCALE, start)
    assert_close(found, exact, HALF_ERROR)


def test_what_does_not_fit_is_refused(interpreter: ProcessPoolExecutor) -> None:
    given = step([9])
    for wrong in (
        replace(given, cache=given.cache[:, 1:]),
        replace(given, q=given.q.half()),
        replace(given, latent=LATENT + ROPE),
        replace(given, splits=Splits(4, min_tokens=50)),
    ):
        with pytest.raises(KernelInputError):
            run(interpreter, wrong)


@pytest.mark.parametrize("seen", [1, 64, 65, 1000, 16384, 163840])
@pytest.mark.parametrize("cap", [1, 7, 66, 132])
def test_splits_cover_the_context_within_the_cap(cap: int, seen: int) -> None:
    count = Splits(cap).count(seen)
    share = math.ceil(math.ceil(seen / cap) / 64) * 64
    assert 1 <= count <= cap
    assert (count - 1) * share < seen <= count * share


def test_more_heads_and_tokens_leave_fewer_splits() -> None:
    cpu = torch.device("cpu")
    caps = [split_cap(cpu, heads, tokens) for heads, tokens in ((16, 1), (16, 2), (64, 2), (64, 8))]
    assert caps == [4, 2, 1, 1]
