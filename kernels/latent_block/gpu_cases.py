"""Shapes, inputs and allowed errors of `prepare` and `unfold`, one truth for tests and bench."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.split_results import SplitResults
from kernels.blocks import BlockTensor
from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME
from kernels.latent_block import CacheMemory
from kernels.latent_block.gpu_records import Angles, HeadRows, NewRows, Queries
from kernels.planar import to_planar
from kernels.rope import frequencies

RELATIVE_ERROR = 1e-5  # sums in another order; inputs of weights of blocks are rounded in both
FAR = 163_839  # the longest context's last position


@dataclass(frozen=True, slots=True)
class Case:
    """Lengths in values; a key that is not transposed is joined with the values."""

    format: str
    transposed: bool
    tokens: int
    heads: int
    nope: int
    rope: int
    value: int
    latent: int

    @property
    def name(self) -> str:
        return f"{self.format}-{'transposed' if self.transposed else 'joined'}-{self.tokens}"


SMALL = (
    Case("Q8_0", True, 1, 3, 32, 8, 32, 32),
    Case("BF16", True, 5, 2, 33, 6, 7, 19),
    Case("F32", True, 8, 1, 5, 2, 7, 19),
    Case("Q8_0", True, 8, 2, 96, 10, 40, 64),
    Case("Q4_K", True, 2, 3, 256, 64, 5, 256),
    Case("Q8_0", False, 3, 3, 40, 8, 24, 96),
    Case("Q6_K", False, 1, 2, 150, 6, 33, 256),
    Case("F16", False, 8, 3, 9, 4, 6, 70),
    Case("BF16", True, 2, 2, 64, 8, 32, 64),
)
CACHES = ("F32", "F16", "BF16", "Q8_0")
LITE = Case("Q8_0", True, 1, 16, 128, 64, 128, 512)  # DeepSeek-V2-Lite
V3 = Case("Q8_0", True, 1, 128, 128, 64, 128, 512)  # DeepSeek-V3

# cap, min_tokens, granule and what tokens see, repeated to their number
SPLITS = (
    (1, 64, 64, (1, 70, 0)),
    (5, 4, 2, (1, 4, 5, 19, 20, 21, 1000)),
    (130, 1, 1, (130, 129, 131, 7, 100_000)),
    (300, 16, 16, (163_840, 15, 17, 4800)),
)


def matrices_of(case: Case, seed: int = 0) -> tuple[BlockTensor, BlockTensor]:
    """Key and value blocks; the joined matrix, twice, where the key is not transposed."""
    known = BY_NAME[case.format]
    if not case.transposed:
        both = like_weights(known, (case.heads, case.nope + case.value, case.latent), seed)
        return both, both
    return (
        like_weights(known, (case.heads, case.latent, case.nope), seed),
        like_weights(known, (case.heads, case.value, case.latent), seed + 1),
    )


def head_rows_of(
    case: Case, matrices: tuple[BlockTensor, BlockTensor], device: torch.device
) -> tuple[HeadRows, HeadRows]:
    """Key and value as kernels take them."""
    key, value = (
        to_planar(BlockTensor(m.blocks.to(device), m.format, m.columns)) for m in matrices
    )
    if case.transposed:
        return HeadRows(key, 0, case.latent), HeadRows(value, 0, case.value)
    return HeadRows(key, 0, case.nope), HeadRows(key, case.nope, case.value)


def queries_of(case: Case, key: HeadRows, device: torch.device) -> Queries:
    q = _some(case.tokens, case.heads, case.nope + case.rope)
    shape = (case.tokens, case.heads, case.latent + case.rope)
    return Queries(q.to(device), key, case.transposed, torch.full(shape, torch.nan, device=device))


def new_rows_of(case: Case, cache_format: str, device: torch.device) -> NewRows:
    """Into a cache of twice as many rows as tokens, all bytes 0xFF."""
    known, length = BY_NAME[cache_format], case.latent + case.rope
    columns = -(-length // known.block_weights) * known.block_weights
    memory = torch.full((2 * case.tokens, known.row_bytes(columns)), 0xFF, device=device).byte()
    places = torch.randperm(2 * case.tokens, generator=torch.Generator().manual_seed(3))
    return NewRows(
        kv=(3 * _some(case.tokens, length)).to(device),
        norm=(1 + 0.2 * _some(case.latent)).to(device),
        epsilon=1e-6,
        cache=CacheMemory(memory, known),
        rows=places[: case.tokens].to(device),
    )


def angles_of(case: Case, device: torch.device, *, first: int = FAR) -> Angles:
    """Positions first, then half of it, a third and so on."""
    positions = first // torch.arange(1, case.tokens + 1)
    frequency = frequencies(case.rope, 10_000.0)
    return Angles(positions.int().to(device), frequency.to(device), 1.25)


def results_of(
    case: Case, cap: int, tokens_of_splits: tuple[int, int], seen: Tensor, device: torch.device
) -> SplitResults:
    """Random partials; NaN behind each token's last split."""
    results = SplitResults(
        partial=_some(case.tokens, case.heads, cap, case.latent),
        statistics=_some(case.tokens, case.heads, cap, 2),
        seen=seen.int(),
        min_tokens=tokens_of_splits[0],
        granule=tokens_of_splits[1],
    )
    results.statistics[..., 0] *= 20
    results.statistics[..., 1].abs_().add_(0.5)
    for token in range(case.tokens):
        unwritten = slice(split_count(results, token), None)
        results.partial[token, :, unwritten] = torch.nan
        results.statistics[token, :, unwritten] = torch.nan
    return SplitResults(
        results.partial.to(device),
        results.statistics.to(device),
        results.seen.to(device),
        results.min_tokens,
        results.granule,
    )


def split_count(results: SplitResults, token: int) -> int:
    seen, cap = int(results.seen[token]), results.partial.shape[2]
    share = math.ceil(seen / cap)
    per_split = max(results.min_tokens, math.ceil(share / results.granule) * results.granule)
    return math.ceil(seen / per_split)


def _some(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
