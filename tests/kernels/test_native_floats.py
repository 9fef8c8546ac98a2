"""Every tier's norms, gates, rotations, cache rows and attention, called through the C border."""

import ctypes

import pytest
import torch
from torch import Tensor

from kernels.attention import cases as attention_cases
from kernels.attention.cpu import AbsorbedQueries, CacheRows, ExpandedAttention, PartialAttention
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.formats import BY_NAME
from kernels.native.library import library
from kernels.native.tiers import NAMES
from kernels.quantize import quantize_q8_0
from kernels.rms_norm import cases as norm_cases
from kernels.rope import cases as rope_cases
from kernels.rope import frequencies, reference
from kernels.testing import assert_close

CACHE_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "Q8_0": None}
GUARD = 7.25  # stands behind outputs and must stay
SCALE = 0.11

every_cache = pytest.mark.parametrize("cache", CACHE_TYPES)


@pytest.fixture(params=range(len(NAMES)), ids=NAMES)
def tier(request: pytest.FixtureRequest) -> int:
    if not library().hybrid_has_tier(request.param):
        pytest.skip(f"this processor has no {NAMES[request.param]}")
    return int(request.param)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def guarded(*shape: int) -> tuple[Tensor, Tensor]:
    """Memory of that shape and the values behind it."""
    count = torch.Size(shape).numel()
    memory = torch.full((count + 16,), GUARD)
    return memory[:count].view(shape), memory[count:]


@pytest.mark.parametrize("width", [1, 5, 16, 33, 64, 575, 2048])
def test_rms_norm_agrees_with_float64(tier: int, width: int) -> None:
    x, weight = random(3, width), random(width)
    out, behind = guarded(3, width)
    library().hybrid_rms_norm(tier, x.data_ptr(), weight.data_ptr(), 3, width, 1e-6, out.data_ptr())
    exact = x.double()
    exact = exact / (exact.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    assert_close(out, exact, norm_cases.RELATIVE_ERROR)
    assert behind.eq(GUARD).all()


@pytest.mark.parametrize("width", [1, 33, 2048])
def test_a_norm_that_adds_first_leaves_the_sum(tier: int, width: int) -> None:
    x, added, weight = random(2, width), random(2, width, seed=2), random(width)
    total = x + added
    out, expected = torch.empty(2, width), torch.empty(2, width)
    library().hybrid_add_rms_norm(
        tier, x.data_ptr(), added.data_ptr(), weight.data_ptr(), 2, width, 1e-6, out.data_ptr()
    )
    library().hybrid_rms_norm(
        tier, total.data_ptr(), weight.data_ptr(), 2, width, 1e-6, expected.data_ptr()
    )
    assert torch.equal(x, total)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("count", [1, 15, 33, 4001])
def test_gates_agree_with_float64_value_by_value(tier: int, count: int) -> None:
    gate, up = torch.linspace(-80, 120, count), random(count)
    out, behind = guarded(count)
    library().hybrid_silu_times(tier, gate.data_ptr(), up.data_ptr(), count, out.data_ptr())
    exact = torch.nn.functional.silu(gate.double()) * up.double()
    assert ((out.double() - exact).abs() <= 1e-6 * exact.abs()).all()
    assert behind.eq(GUARD).all()


def test_gates_far_out_are_zero_or_the_input(tier: int) -> None:
    gate, up = torch.tensor([-1e30, -100.0, 100.0, 1e30]), torch.ones(4)
    library().hybrid_silu_times(tier, gate.data_ptr(), up.data_ptr(), 4, gate.data_ptr())
    assert gate[:2].abs().lt(1e-6).all()
    assert gate[2:].tolist() == torch.tensor([100.0, 1e30]).tolist()


def test_a_gate_that_is_no_number_stays_none(tier: int) -> None:
    gate = torch.tensor([torch.nan, 1.0])
    library().hybrid_silu_times(tier, gate.data_ptr(), gate.data_ptr(), 2, gate.data_ptr())
    assert gate.isnan().tolist() == [True, False]


@pytest.mark.parametrize("count", [1, 21, 64])
def test_rows_are_added_with_their_factor(tier: int, count: int) -> None:
    x = random(count)
    total, behind = guarded(count)
    total[:] = random(count, seed=2)
    exact = total.double() - 1.75 * x.double()
    library().hybrid_add_scaled(tier, total.data_ptr(), x.data_ptr(), -1.75, count)
    assert_close(total, exact, 1e-6)
    assert behind.eq(GUARD).all()


@pytest.mark.parametrize("length", [2, 6, 16, 38, 64])
def test_rotation_agrees_with_the_reference(tier: int, length: int) -> None:
    x, positions = random(3, 5, length), torch.tensor([0, 7, rope_cases.FAR])
    frequency = frequencies(length, 10000.0)
    cos, sin = torch.empty(2, 3, length // 2)
    library().hybrid_rope_table(
        frequency.data_ptr(), length // 2, positions.data_ptr(), 3, 1.5, *map(pointer, (cos, sin))
    )
    expected = reference.rope(x, positions, frequency, 1.5)
    library().hybrid_rotate(tier, x.data_ptr(), 3, 5, length, cos.data_ptr(), sin.data_ptr())
    assert_close(x, expected, rope_cases.RELATIVE_ERROR)


def pointer(x: Tensor) -> int:
    return x.data_ptr()


def awkward(count: int, width: int) -> Tensor:
    """Magnitudes from below the smallest half to above the largest, ties of rounding, zeros."""
    x = random(count, width) * torch.logspace(-9, 6, count)[:, None]
    x[0] = 0
    x[1] = 1 + torch.arange(width) / 4096  # halfway between halves, or near it
    x[2] = (torch.arange(width) % 32 - 15.5).clamp(max=15.5) * 8
    x[2, ::32] = 127
    return x


def encoded(x: Tensor, cache: str) -> Tensor:
    """[rows, bytes] as torch and the quantiser's reference encode them."""
    dtype = CACHE_TYPES[cache]
    if dtype is not None:
        return x.to(dtype).view(torch.uint8)
    return quantize_q8_0(torch.nn.functional.pad(x, (0, -x.shape[1] % 32))).blocks


def decoded(stored: Tensor, cache: str, width: int) -> Tensor:
    dtype = CACHE_TYPES[cache]
    if dtype is not None:
        return stored.view(dtype).float()
    blocks = BlockTensor(stored, BY_NAME["Q8_0"], -(-width // 32) * 32)
    return dequantize(blocks, implementation="reference")[:, :width]


@every_cache
@pytest.mark.parametrize("width", [1, 30, 96, 575, 576])
def test_cache_rows_are_written_and_read_bit_for_bit(tier: int, cache: str, width: int) -> None:
    x = awkward(40, width)
    expected = encoded(x, cache)
    stored = torch.full((40, expected.shape[1] + 8), 77, dtype=torch.uint8)
    known = BY_NAME[cache].ggml_id
    library().hybrid_write_cache_rows(
        tier, known, x.data_ptr(), 40, width, stored.data_ptr(), stored.shape[1]
    )
    assert torch.equal(stored[:, :-8], expected)
    assert stored[:, -8:].eq(77).all()
    rows = CacheRows(stored.data_ptr(), stored.shape[1], known, width, 0)
    out, behind = guarded(38, width + 3)
    library().hybrid_read_cache_rows(tier, ctypes.addressof(rows), 1, 39, out.data_ptr(), width + 3)
    assert torch.equal(out[:, :width], decoded(expected, cache, width)[1:39])
    assert out[:, width:].eq(0).all()
    assert behind.eq(GUARD).all()


class Absorbed:
    """Queries of some tokens against a cache, whole or split, on one tier."""

    def __init__(self, tier: int, cache: str, tokens: int, heads: int, latent: int, seen: int):
        self.tier, self.tokens, self.heads, self.latent = tier, tokens, heads, latent
        width = latent + 6
        self.start = seen - tokens
        self.q = random(tokens, heads, width)
        self.stored = encoded(random(seen, width), cache)
        self.rows = decoded(self.stored, cache, width)
        self.cached = CacheRows(
            self.stored.data_ptr(), self.stored.shape[1], BY_NAME[cache].ggml_id, latent, 6
        )
        self.queries = AbsorbedQueries(
            self.q.data_ptr(), *self.q.stride()[:2], tokens, heads, self.start + 1, SCALE
        )

    def attended(self, *edges: int) -> Tensor:
        """Joined from parts of the rows between two edges each: [tokens, heads, latent]."""
        queries, padded = self.tokens * self.heads, -(-self.latent // 16) * 16
        parts = len(edges) - 1
        largest, total = torch.empty(2, parts, queries)
        values = torch.empty(parts, queries, padded)
        scratch = torch.empty(library().hybrid_absorbed_scratch(self.latent + 6))
        records = (PartialAttention * parts)()
        for i, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
            records[i] = PartialAttention(
                largest[i].data_ptr(), total[i].data_ptr(), values[i].data_ptr(), padded
            )
            library().hybrid_absorbed_attention(
                self.tier,
                ctypes.addressof(self.cached),
                begin,
                end,
                ctypes.addressof(self.queries),
                ctypes.addressof(records[i]),
                scratch.data_ptr(),
            )
        out, behind = guarded(self.tokens, self.heads, self.latent)
        library().hybrid_join_attention(
            self.tier,
            ctypes.addressof(records),
            parts,
            queries,
            self.latent,
            out.data_ptr(),
            self.latent,
        )
        assert behind.eq(GUARD).all()
        return out

    def exact(self) -> Tensor:
        rows = self.rows.double()
        score = SCALE * torch.einsum("thw,sw->ths", self.q.double(), rows)
        future = torch.arange(len(rows)) > self.start + torch.arange(self.tokens)[:, None]
        weight = score.masked_fill(future[:, None], -torch.inf).softmax(-1)
        return torch.einsum("ths,sl->thl", weight, rows[:, : self.latent])


@every_cache
@pytest.mark.parametrize(
    ("tokens", "heads", "latent", "seen"),
    [(1, 1, 24, 1), (1, 3, 24, 37), (1, 16, 90, 64), (2, 7, 33, 33), (8, 9, 64, 70), (3, 2, 1, 3)],
)
def test_absorbed_attention_agrees_with_float64(
    tier: int, cache: str, tokens: int, heads: int, latent: int, seen: int
) -> None:
    case = Absorbed(tier, cache, tokens, heads, latent, seen)
    assert_close(case.attended(0, seen), case.exact(), attention_cases.RELATIVE_ERROR)


@pytest.mark.parametrize("edges", [(0, 50, 100), (0, 0, 1, 33, 97, 100), (0, 98, 99, 100)])
def test_a_context_that_is_split_attends_as_the_whole(tier: int, edges: tuple[int, ...]) -> None:
    case = Absorbed(tier, "F16", 3, 5, 40, 100)
    assert_close(case.attended(*edges), case.exact(), attention_cases.RELATIVE_ERROR)


def test_rows_a_token_does_not_see_change_nothing_for_it(tier: int) -> None:
    case = Absorbed(tier, "F32", 4, 3, 40, 70)
    before = case.attended(0, 70)
    case.stored.view(torch.float32)[68:] = 1e6
    after = case.attended(0, 70)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2:], after[2:])


def test_a_split_without_visible_rows_weighs_nothing(tier: int) -> None:
    case = Absorbed(tier, "F32", 2, 3, 40, 66)
    assert_close(case.attended(0, 65, 66), case.exact(), attention_cases.RELATIVE_ERROR)


def expanded(tier: int, tokens: int, start: int, heads: int, lengths: tuple[int, int, int]):
    """Record, its tensors and the result by float64."""
    (nope, rope, value), seen = lengths, start + tokens
    q, k = random(tokens, heads, nope + rope), random(seen, heads, nope)
    shared, v = random(seen, rope, seed=3), random(seen, heads, value, seed=4)
    keys = torch.cat((k, shared[:, None].expand(-1, heads, -1)), -1).double()
    score = SCALE * torch.einsum("thd,shd->hts", q.double(), keys)
    future = torch.arange(seen) > start + torch.arange(tokens)[:, None]
    weight = score.masked_fill(future, -torch.inf).softmax(-1)
    exact = torch.einsum("hts,shv->thv", weight, v.double())
    out, behind = guarded(tokens, heads, value)
    record = ExpandedAttention(
        *(q.data_ptr(), *q.stride()[:2], k.data_ptr(), *k.stride()[:2]),
        *(shared.data_ptr(), rope, v.data_ptr(), *v.stride()[:2]),
        *(out.data_ptr(), *out.stride()[:2], nope, rope, value, start, SCALE),
    )
    return record, (q, k, shared, v, out, behind), exact


@pytest.mark.parametrize(
    ("tokens", "start", "heads", "lengths"),
    [
        (1, 0, 1, (10, 6, 9)),
        (7, 0, 2, (10, 6, 9)),
        (65, 0, 1, (32, 16, 64)),
        (13, 130, 3, (16, 2, 33)),
        (3, 62, 2, (1, 2, 1)),
    ],
)
@pytest.mark.parametrize("run", [5, 1000])
def test_expanded_attention_agrees_with_float64(
    tier: int, tokens: int, start: int, heads: int, lengths: tuple[int, int, int], run: int
) -> None:
    record, tensors, exact = expanded(tier, tokens, start, heads, lengths)
    run = min(run, tokens)
    key, value = lengths[0] + lengths[1], lengths[2]
    needed = library().hybrid_expanded_scratch(key, value, run)
    scratch = torch.full((needed + 16,), torch.nan)
    scratch[needed:] = GUARD
    for head in range(heads):
        for first in range(0, tokens, run):
            library().hybrid_expanded_attention(
                tier,
                ctypes.addressof(record),
                head,
                first,
                min(first + run, tokens),
                scratch.data_ptr(),
            )
    *_, out, behind = tensors
    assert_close(out, exact, attention_cases.RELATIVE_ERROR)
    assert behind.eq(GUARD).all()
    assert scratch[needed:].eq(GUARD).all()
