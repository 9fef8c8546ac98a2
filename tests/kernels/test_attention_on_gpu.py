"""The attention kernels on a GPU: every cache format and model shape, replayed graphs, prompts."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from kernels.attention import absorbed_attention, expanded_attention, gpu, gpu_prompt
from kernels.attention.gpu_plan import split_buffers, split_cap, splits_of
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.quantize import Q8_0, quantize_q8_0
from kernels.testing import assert_close

pytestmark = [
    pytest.mark.gpu,  # the oracle multiplies with cuBLAS, which warns where memory is poisoned
    pytest.mark.filterwarnings("ignore:Deterministic behavior was enabled"),
]

DEVICE = torch.device("cuda")
LATENT, ROPE, SCALE = 512, 64, 0.07
LONGEST = 163840
ERROR = {
    torch.float32: 2e-5,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
    torch.uint8: 3e-3,
}


def random(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed + len(shape))
    return torch.randn(shape, generator=generator, device=DEVICE)


def cache_of(rows: int, dtype: torch.dtype) -> Tensor:
    values = random(rows, LATENT + ROPE)
    return quantize_q8_0(values).blocks if dtype == torch.uint8 else values.to(dtype)


def attention(q: Tensor, cache: Tensor, seen: list[int], starts: list[int] | None = None) -> Tensor:
    """In float64 from the cache as it is stored."""
    if cache.dtype == torch.uint8:
        cache = dequantize(BlockTensor(cache, Q8_0, LATENT + ROPE))
    out = []
    for token, count in enumerate(seen):
        first = starts[token] if starts else 0
        rows = cache[first : first + count].double()
        score = SCALE * q[token].double() @ rows.T
        out.append(score.softmax(-1) @ rows[:, :LATENT])
    return torch.stack(out)


class Decode:
    """Buffers of one step and its two launches."""

    def __init__(self, q: Tensor, cache: Tensor, starts: list[int] | None = None) -> None:
        tokens, heads, _ = q.shape
        self.splits = splits_of(DEVICE, heads, tokens)
        self.seen = torch.ones(tokens, dtype=torch.int32, device=DEVICE)
        self.buffers = split_buffers(tokens, heads, LATENT, self.splits, DEVICE, cache.dtype)
        self.out = torch.empty(tokens, heads, LATENT, device=DEVICE)
        self.q, self.cache = q, cache
        self.first_row = None if starts is None else torch.tensor(starts, device=DEVICE)

    def launch(self) -> None:
        gpu.absorbed_split(
            *(self.q, self.cache, self.seen, *self.buffers, SCALE),
            splits=self.splits,
            first_row=self.first_row,
        )
        gpu.merge_splits(*self.buffers, self.seen, self.splits, self.out)

    def __call__(self, seen: list[int]) -> Tensor:
        self.seen.copy_(torch.tensor(seen, dtype=torch.int32))
        for buffer in (*self.buffers, self.out):
            buffer.fill_(torch.nan)
        self.launch()
        return self.out


@pytest.mark.parametrize("dtype", ERROR, ids=str)
@pytest.mark.parametrize("heads", [16, 20, 64, 128])
def test_every_cache_at_every_length(heads: int, dtype: torch.dtype) -> None:
    cache, q = cache_of(LONGEST, dtype), random(1, heads, LATENT + ROPE)
    decode = Decode(q, cache)
    for seen in (1, 63, 64, 65, 129, 1000, 4096, 16385, 65536, LONGEST):
        assert_close(decode([seen]), attention(q, cache, [seen]), ERROR[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8], ids=str)
@pytest.mark.parametrize("heads", [16, 128])
@pytest.mark.parametrize("tokens", range(2, 9))
def test_every_batch_with_lengths_of_its_own(tokens: int, heads: int, dtype: torch.dtype) -> None:
    cache, q = cache_of(20000, dtype), random(tokens, heads, LATENT + ROPE)
    seen = [1, 70, 4000, 9000, 64, 7, 2500, 333][:tokens]
    starts = [0, 1, 100, 11000, 9, 19000, 4321, 5][:tokens]
    assert_close(Decode(q, cache, starts)(seen), attention(q, cache, seen, starts), ERROR[dtype])


@pytest.mark.parametrize("heads", [16, 128])
def test_rows_not_seen_do_not_matter(heads: int) -> None:
    cache, q = cache_of(40_000, torch.bfloat16), random(1, heads, LATENT + ROPE)
    decode = Decode(q, cache)
    before = decode([777]).clone()
    cache[777:] = 3e38
    assert torch.equal(decode([777]), before)


@pytest.mark.parametrize("heads", [16, 128])
def test_partials_of_floats_are_merged_too(heads: int) -> None:
    cache, q = cache_of(5000, torch.float16), random(1, heads, LATENT + ROPE)
    decode = Decode(q, cache)
    decode.buffers = split_buffers(1, heads, LATENT, decode.splits, DEVICE)
    assert_close(decode([4999]), attention(q, cache, [4999]), ERROR[torch.float16])


@pytest.mark.parametrize("heads", [1, 2, 5, 17, 33, 65])
def test_odd_numbers_of_heads(heads: int) -> None:
    cache, q = cache_of(700, torch.bfloat16), random(2, heads, LATENT + ROPE)
    found = Decode(q, cache)([650, 651])
    assert_close(found, attention(q, cache, [650, 651]), ERROR[torch.bfloat16])


@pytest.mark.parametrize("heads", [16, 128])
def test_a_graph_is_replayed_while_the_context_grows(heads: int) -> None:
    cache, q = cache_of(5100, torch.bfloat16), random(1, heads, LATENT + ROPE)
    decode = Decode(q, cache)
    decode([1])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decode.launch()
        decode.seen += 1
    decode.seen.fill_(1)
    for seen in range(1, 5001):
        graph.replay()
        if seen in (1, 64, 65, 128, 1000, 4999, 5000):
            assert_close(decode.out, attention(q, cache, [seen]), ERROR[torch.bfloat16])


def test_surplus_splits_stay_untouched() -> None:
    decode = Decode(random(1, 16, LATENT + ROPE), cache_of(300, torch.bfloat16))
    decode([200])
    used, cap = decode.splits.count(200), split_cap(DEVICE, 16, 1)
    for buffer in decode.buffers:
        assert buffer[:, :, :used].isfinite().all()
        assert buffer[:, :, used:cap].isnan().all()


@pytest.mark.parametrize("heads", [16, 64])
def test_queries_beyond_float16_are_scaled(heads: int) -> None:
    cache, q = cache_of(900, torch.float16), random(1, heads, LATENT + ROPE)
    found = Decode(q * 1e6, cache)
    out = torch.empty_like(found.out)
    found([900])
    gpu.absorbed_split(
        *(found.q, cache, found.seen, *found.buffers, SCALE / 1e6), splits=found.splits
    )
    gpu.merge_splits(*found.buffers, found.seen, found.splits, out)
    assert_close(out, attention(q, cache, [900]), ERROR[torch.float16])


@pytest.mark.parametrize(("latent", "rope", "heads"), [(32, 8, 2), (24, 6, 3), (64, 16, 4)])
def test_tiny_models(latent: int, rope: int, heads: int) -> None:
    q_latent, q_rope = random(3, heads, latent), random(3, heads, rope)
    rows = random(70, latent + rope)
    inputs = (q_latent, q_rope, rows)
    found = absorbed_attention(*inputs, SCALE, 67, implementation="triton")
    exact = absorbed_attention(*inputs, SCALE, 67, implementation="reference")
    assert_close(found, exact, ERROR[torch.float32])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("latent", "rope"), [(32, 8), (24, 6), (64, 16)])
def test_tiny_models_with_half_caches(latent: int, rope: int, dtype: torch.dtype) -> None:
    q, cache = random(2, 3, latent + rope), random(140, latent + rope).to(dtype)
    seen = torch.tensor([130, 131], dtype=torch.int32, device=DEVICE)
    splits = splits_of(DEVICE, 3, 2)
    buffers = split_buffers(2, 3, latent, splits, DEVICE, dtype)
    out = torch.empty(2, 3, latent, device=DEVICE)
    gpu.absorbed_split(q, cache, seen, *buffers, SCALE, splits=splits)
    gpu.merge_splits(*buffers, seen, splits, out)
    rows = cache[:131].float()
    exact = absorbed_attention(*q.split([latent, rope], -1), rows, SCALE, 129)
    assert_close(out, exact, ERROR[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("tokens", "start"), [(1, 0), (127, 0), (129, 64), (300, 1000), (64, 4097)]
)
def test_prompts_over_cached_context(tokens: int, start: int, dtype: torch.dtype) -> None:
    heads, seen = 5, start + tokens
    q = random(tokens, heads, 192).to(dtype)
    keys_and_values = random(seen, heads, 256, seed=5).to(dtype)
    k_nope, v = keys_and_values.split([128, 128], -1)
    k_rope = random(seen, LATENT + ROPE).to(dtype)[:, LATENT:]
    out = torch.full((tokens, heads, 128), torch.nan, dtype=dtype, device=DEVICE)
    gpu_prompt.expanded_prompt(q, k_nope, k_rope, v, SCALE, start, out)
    exact = expanded_attention(
        *(each.float() for each in (q, k_nope, k_rope, v)),
        *(SCALE, start),
        implementation="reference",
    )
    assert_close(out, exact, ERROR[dtype])
