"""`prepare` and `unfold`, emulated on the CPU and on a GPU where there is one."""

from dataclasses import replace

import pytest
import torch

from kernels.dequantize import dequantize
from kernels.errors import KernelInputError
from kernels.formats import FORMATS
from kernels.latent_block import gpu_cases as cases
from kernels.latent_block import gpu_prepare, gpu_unfold, reference
from kernels.latent_block.gpu import HeadRows, SplitResults, prepare, unfold, unfold_scratch
from kernels.latent_block.gpu_cases import Case
from kernels.latent_block.gpu_records import token_class
from kernels.quantize.reference import round_half_away
from kernels.rms_norm.reference import rms_norm
from kernels.rope import rope
from kernels.rope.cases import RELATIVE_ERROR as ROPE_ERROR
from kernels.testing import assert_close, assert_same_bits

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
everywhere = pytest.mark.parametrize("device", ["cpu", GPU], indirect=True)
HALVES = (torch.float16, torch.bfloat16)
OF_16_BITS = (cases.SMALL[1], cases.SMALL[3])  # one value a load, four
all_cases = pytest.mark.parametrize("case", cases.SMALL, ids=lambda case: case.name)


@pytest.fixture
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="module", autouse=True)
def _compiled_at_once():
    """One run of the compiler for all small cases is faster than one for each."""
    prepared, unfolded = set(), set()
    for case in cases.SMALL:
        tokens = token_class(case.tokens)
        key, value = cases.head_rows_of(case, cases.matrices_of(case), torch.device("cpu"))
        prepared.add(gpu_prepare.kernel_name(key.weight, case.transposed, tokens))
        wide, weight = 1 if case.latent % 4 else 4, value.weight
        unfolded.add(gpu_unfold.kernel_name(weight, torch.float32, tokens, wide))
        if case in OF_16_BITS:
            unfolded |= {gpu_unfold.kernel_name(weight, each, tokens, wide) for each in HALVES}
    gpu_prepare.PROGRAM.compile(sorted(prepared), "cpu")
    gpu_unfold.PROGRAM.compile(sorted(unfolded), "cpu")


def rounded(x, weight):
    """x as products with this weight see it."""
    if weight.format.block_weights == 1:
        return x
    groups = x.reshape(-1, 32)
    d = groups.abs().amax(1, keepdim=True) / 127
    numbers = round_half_away(groups * torch.where(d == 0, 0.0, 1 / d))
    return (numbers.double() * d.double()).view(x.shape)


def product(x, matrices):
    """[tokens, heads, .] times [heads, rows, .] in float64."""
    return torch.einsum("thc,hrc->thr", x.double(), matrices.double()).float()


def absorbed(case, key_blocks, q):
    q_nope = q[..., : case.nope]
    matrices = dequantize(key_blocks, implementation="reference")
    if case.transposed:
        return product(rounded(q_nope, key_blocks), matrices)
    return product(q_nope, matrices[:, : case.nope].transpose(1, 2))


def prepared(case, cache_format, device, **options):
    """Runs it: queries, new rows and angles as they are thereafter, and the key's blocks."""
    matrices = cases.matrices_of(case)
    key, _ = cases.head_rows_of(case, matrices, device)
    queries = cases.queries_of(case, key, device)
    fresh = cases.new_rows_of(case, cache_format, device)
    angles = cases.angles_of(case, device)
    prepare(queries, fresh, angles, **options)
    return queries, fresh, angles, matrices[0]


def expected_rows(case, fresh, angles):
    latent, key = fresh.kv.cpu().split([case.latent, case.rope], -1)
    positions = angles.positions.cpu().long()
    turned = rope(key, positions, angles.frequency.cpu(), angles.amplitude)
    return torch.cat((rms_norm(latent, fresh.norm.cpu(), fresh.epsilon), turned), -1)


@everywhere
@all_cases
def test_queries_are_absorbed_and_rotated(case, device):
    queries, _, angles, key = prepared(case, "F32", device)
    latent, turned = queries.absorbed.cpu().split([case.latent, case.rope], -1)
    q = queries.q.cpu()
    assert_close(latent, absorbed(case, key, q), cases.RELATIVE_ERROR)
    positions = angles.positions.cpu().long()
    expected = rope(q[..., case.nope :], positions, angles.frequency.cpu(), angles.amplitude)
    assert_close(turned, expected, ROPE_ERROR)


@everywhere
@all_cases
def test_rows_are_normed_rotated_and_no_others_written(case, device):
    _, fresh, angles, _ = prepared(case, "F32", device)
    cache = fresh.cache.rows.cpu()
    got = cache.view(torch.float32)[fresh.rows.cpu()]
    assert_close(got, expected_rows(case, fresh, angles), 2e-6)
    others = torch.ones(len(cache), dtype=torch.bool)
    others[fresh.rows.cpu()] = False
    assert (cache[others] == 0xFF).all()


@everywhere
@all_cases
@pytest.mark.parametrize("cache_format", ["F16", "BF16", "Q8_0"])
def test_rows_are_converted_byte_for_byte_as_the_reference_does(case, cache_format, device):
    _, plain, _, _ = prepared(case, "F32", device)
    _, fresh, _, _ = prepared(case, cache_format, device)
    rows = plain.cache.rows.cpu().view(torch.float32)[plain.rows.cpu()]
    expected = cases.new_rows_of(case, cache_format, torch.device("cpu")).cache
    reference.write(expected, 0, rows)
    got = fresh.cache.rows.cpu()[fresh.rows.cpu()]
    assert torch.equal(got, expected.rows[: case.tokens])


@everywhere
def test_values_at_the_borders_of_float16_round_as_torch_rounds(device):
    case = Case("Q8_0", True, 1, 3, 32, 8, 32, 32)
    key, _ = cases.head_rows_of(case, cases.matrices_of(case), device)
    rows = {}
    for cache_format in ("F32", "F16", "BF16"):
        fresh = cases.new_rows_of(case, cache_format, device)
        halves = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 3e-8, 6e-8, 65519.9, 1 + 2**-8, 7e4, 0])
        fresh.norm.copy_(halves.repeat(4))
        fresh.kv[:, :32] = torch.tensor([1.0, -1.0] * 16)
        prepare(cases.queries_of(case, key, device), fresh, cases.angles_of(case, device))
        rows[cache_format] = fresh.cache.rows.cpu()[fresh.rows.cpu()]
    floats = rows["F32"].view(torch.float32)
    for name, kind in (("F16", torch.float16), ("BF16", torch.bfloat16)):
        assert_same_bits(rows[name].view(kind).float(), floats.to(kind).float())


@everywhere
@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 5, 6, 1000, 99_999, cases.FAR])
def test_angles_of_every_quadrant_are_as_exact_as_float32(position, device):
    case = Case("Q8_0", True, 1, 3, 32, 8, 32, 32)
    key, _ = cases.head_rows_of(case, cases.matrices_of(case), device)
    queries = cases.queries_of(case, key, device)
    angles = cases.angles_of(case, device, first=position)
    prepare(queries, cases.new_rows_of(case, "F32", device), angles)
    x = queries.q[..., case.nope :].cpu().double()
    angle = position * angles.frequency.cpu()
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    expected = angles.amplitude * torch.stack(turned, -1).flatten(-2)
    assert_close(queries.absorbed[..., case.latent :].cpu(), expected, 2e-7)


@everywhere
@pytest.mark.parametrize("tile_values", [64, 256, 1024])
def test_tiles_of_any_length_cover_the_latent(tile_values, device):
    case = Case("Q8_0", True, 8, 2, 96, 10, 40, 64)
    wide = Case("Q8_0", True, 8, 2, 96, 10, 40, 320)
    for one in (case, wide):
        queries, _, _, key = prepared(one, "F32", device, tile_values=tile_values)
        expected = absorbed(one, key, queries.q.cpu())
        assert_close(queries.absorbed[..., : one.latent].cpu(), expected, cases.RELATIVE_ERROR)


def merged(results):
    """o [tokens, heads, latent] in float64."""
    tokens, heads, _, latent = results.partial.shape
    out = torch.zeros(tokens, heads, latent, dtype=torch.float64)
    for token in range(tokens):
        count = cases.split_count(results, token)
        if count:
            most, sums = results.statistics[token, :, :count].cpu().double().unbind(-1)
            weight = torch.exp2(most - most.amax(-1, keepdim=True)) * sums
            partial = results.partial[token, :, :count].cpu().double()
            out[token] = (weight[..., None] * partial).sum(1) / weight.sum(1)[:, None]
    return out


def unfolded(case, splits, device, dtype=torch.float32, **options):
    """Runs it twice: the value's blocks, the split results and what came out."""
    cap, min_tokens, granule, seen = splits
    matrices = cases.matrices_of(case)
    _, value = cases.head_rows_of(case, matrices, device)
    all_seen = torch.tensor((seen * case.tokens)[: case.tokens])
    results = cases.results_of(case, cap, (min_tokens, granule), all_seen, device)
    results = replace(results, partial=results.partial.to(dtype))
    scratch = unfold_scratch(case.tokens, value, **options)
    out = torch.full((2, case.tokens, case.heads, case.value), torch.nan, device=device)
    for one in out:
        unfold(results, value, one, scratch)
    assert not scratch.counters.any()
    assert_same_bits(out[0].cpu(), out[1].cpu())
    return matrices[1], results, out[0].cpu()


def check_unfolded(case, splits, device, **options):
    blocks, results, got = unfolded(case, splits, device, **options)
    o = rounded(merged(results).float(), blocks)
    matrices = dequantize(blocks, implementation="reference")[:, -case.value :]
    # o of the kernel and of this test may round to neighbouring numbers of eight bits
    is_rounded = blocks.format.block_weights > 1
    assert_close(got, product(o, matrices), 2e-3 if is_rounded else cases.RELATIVE_ERROR)


@everywhere
@all_cases
@pytest.mark.parametrize("splits", cases.SPLITS[:2], ids=lambda splits: f"{splits[0]} splits")
def test_splits_become_values_of_heads(case, splits, device):
    check_unfolded(case, splits, device)


@everywhere
@pytest.mark.parametrize("splits", cases.SPLITS[2:], ids=lambda splits: f"{splits[0]} splits")
@pytest.mark.parametrize("case", [cases.SMALL[1], cases.SMALL[3]], ids=lambda case: case.name)
def test_many_splits_become_values_of_heads(case, splits, device):
    check_unfolded(case, splits, device)


@everywhere
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", OF_16_BITS, ids=lambda case: case.name)
def test_means_of_16_bits_become_values_of_heads(case, dtype, device):
    check_unfolded(case, cases.SPLITS[1], device, dtype=dtype)


@everywhere
@pytest.mark.parametrize("part_columns", [32, 64])
def test_parts_of_any_length_give_the_same(part_columns, device):
    check_unfolded(cases.SMALL[3], cases.SPLITS[1], device, part_columns=part_columns)


@everywhere
def test_a_token_that_sees_nothing_gets_zeros(device):
    _, _, got = unfolded(cases.SMALL[3], (2, 1, 1, (0, 3)), device)
    assert (got[0::2] == 0).all()
    assert (got[1::2] != 0).any()


@pytest.mark.gpu
@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
@pytest.mark.parametrize("transposed", [True, False], ids=["transposed", "joined"])
def test_every_format_on_a_gpu(known, transposed):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    case = Case(known.name, transposed, 2, 3, 256, 64, 128, 512)
    test_queries_are_absorbed_and_rotated(case, device)
    check_unfolded(case, cases.SPLITS[2], device)


def lite_case(**changes):
    fields = {"format": "Q8_0", "transposed": True, "tokens": 1, "heads": 3, "nope": 32}
    return Case(**{**fields, "rope": 8, "value": 32, "latent": 32, **changes})


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"heads": 2}, "heads"), ({"tokens": 2}, "q must"), ({"rope": 4}, "key|q must")],
    ids=["heads", "tokens", "rope"],
)
def test_queries_that_do_not_fit_are_refused(changes, named):
    cpu = torch.device("cpu")
    case, other = lite_case(), lite_case(**changes)
    key, _ = cases.head_rows_of(case, cases.matrices_of(case), cpu)
    good, bad = cases.queries_of(case, key, cpu), cases.queries_of(other, key, cpu)
    mixed = type(good)(good.q, key, True, bad.absorbed)
    with pytest.raises(KernelInputError, match=named):
        prepare(mixed, cases.new_rows_of(case, "F32", cpu), cases.angles_of(case, cpu))


def test_a_cache_of_another_row_length_is_refused():
    cpu = torch.device("cpu")
    case = lite_case()
    key, _ = cases.head_rows_of(case, cases.matrices_of(case), cpu)
    fresh = cases.new_rows_of(lite_case(latent=64), "Q8_0", cpu)
    wrong = type(fresh)(
        cases.new_rows_of(case, "Q8_0", cpu).kv,
        fresh.norm[:32].contiguous(),
        fresh.epsilon,
        fresh.cache,
        fresh.rows,
    )
    with pytest.raises(KernelInputError, match="cache rows"):
        prepare(cases.queries_of(case, key, cpu), wrong, cases.angles_of(case, cpu))


def test_rows_beyond_a_heads_end_are_refused():
    case = lite_case()
    key, _ = cases.head_rows_of(case, cases.matrices_of(case), torch.device("cpu"))
    with pytest.raises(KernelInputError, match="not in the heads"):
        HeadRows(key.weight, 8, 32)


def test_results_that_do_not_fit_are_refused():
    cpu, case = torch.device("cpu"), lite_case()
    _, value = cases.head_rows_of(case, cases.matrices_of(case), cpu)
    results = cases.results_of(case, 2, (1, 1), torch.tensor([2]), cpu)
    scratch, out = unfold_scratch(1, value), torch.empty(1, 3, 32)
    with pytest.raises(KernelInputError, match="out"):
        unfold(results, value, out[:, :2], scratch)
    with pytest.raises(KernelInputError, match="parts"):
        unfold(results, value, out, unfold_scratch(1, value, part_columns=64))
    endless = SplitResults(results.partial, results.statistics, results.seen, 0, 1)
    with pytest.raises(KernelInputError, match="no end"):
        unfold(endless, value, out, scratch)
