"""Tiles and splits of GPU attention, chosen by plain arithmetic: nothing is tuned at run time.

Tiles follow the architecture's shared memory per block (99 KiB on sm_86, 89 and 120, 163 on 80,
227 on 90) and the number of heads; splits follow the number of multiprocessors.
`tools/bench/gpu_attention.py --sweep` measures the alternatives.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SPLIT_GRANULE = 64  # tokens; every tile's rows divide it, so no tile crosses into the next split
MIN_SPLIT_TOKENS = 64
HOPPER = (9, 0)
HALVES = (torch.float16, torch.bfloat16)
BULK_ALIGNMENT = 16  # bytes, of a row's start and length where the bulk copy engine reads it
INTERPRETED_PROCESSORS = 4  # stand for multiprocessors where a kernel is interpreted on the CPU
INTERPRETED_AS = (8, 0)


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a program of `absorbed_split` computes.

    heads    heads of a group, padded: 16, 32 or 64
    rows     cached rows of a tile
    stages   depth of the load pipeline
    warps    warps of a program
    bulk     whether tiles come by the bulk copy engine (sm_90, f16 and bf16 rows)
    """

    heads: int
    rows: int
    stages: int
    warps: int
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Splits:
    """How a context is cut; the split kernel and whoever merges evaluate the same formula.

    cap          splits of the launched grid
    min_tokens   a multiple of SPLIT_GRANULE

    tokens per split = max(min_tokens, round_up(ceil(seen / cap), SPLIT_GRANULE))
    """

    cap: int
    min_tokens: int = MIN_SPLIT_TOKENS

    def count(self, seen: int) -> int:
        """Splits that `seen` tokens fill; the others of the grid end at once."""
        share = -(-seen // self.cap)
        rounded = -(-share // SPLIT_GRANULE) * SPLIT_GRANULE
        return -(-seen // max(self.min_tokens, rounded))


@dataclass(frozen=True, slots=True)
class PromptTiles:
    """How a program of `expanded_prompt` computes: queries and keys of a tile, then as `Tiles`."""

    queries: int
    keys: int
    stages: int
    warps: int
    bulk: bool = False


def split_cap(device: torch.device, heads: int, tokens: int) -> int:
    """Splits of the grid, so that `tokens` queries of `heads` heads fill the device once."""
    groups = -(-heads // _group(heads, capability_of(device)))
    return max(1, processors(device) // (groups * tokens))


def splits_of(device: torch.device, heads: int, tokens: int) -> Splits:
    return Splits(split_cap(device, heads, tokens))


def split_buffers(
    tokens: int,
    heads: int,
    latent: int,
    splits: Splits,
    device: torch.device,
    cache: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Room for `partial` and `statistics` of `absorbed_split`, for a cache of this type."""
    size, dtype = (tokens, heads, splits.cap), partial_type(cache)
    partial = torch.empty(*size, latent, dtype=dtype, device=device)
    return partial, torch.empty(*size, 2, device=device)


def partial_in(room: Tensor, cache: torch.dtype) -> Tensor:
    """A `partial` for this type of cache in the memory of a float32 one, of the same shape."""
    dtype = partial_type(cache)
    return room if dtype == room.dtype else room.view(-1).view(dtype)[: room.numel()].view_as(room)


def partial_type(cache: torch.dtype) -> torch.dtype:
    """Of the splits' means: what is not finer than the rows themselves takes half the memory."""
    return cache if cache in HALVES else torch.float32


def tiles_of(device: torch.device, heads: int, dtype: torch.dtype, bulk: bool) -> Tiles:
    """Tiles for a device; `bulk` says that the rows' alignment allows the bulk copy engine."""
    return tiles_for(capability_of(device), heads, dtype, bulk)


def tiles_for(
    capability: tuple[int, int], heads: int, dtype: torch.dtype, bulk: bool = True
) -> Tiles:
    """Tiles for an architecture. dtype uint8 means q8_0 blocks."""
    half = dtype in HALVES
    if capability == HOPPER and half and bulk:
        group = _group(heads, capability)
        return Tiles(group, rows=64, stages=2, warps=4 if group == 16 else 8, bulk=True)
    group = min(32, _group(heads, capability))
    if dtype == torch.float32:
        return Tiles(16, rows=16, stages=1, warps=8)
    if not half:
        return Tiles(group, rows=32 if group == 16 or capability[0] < 10 else 16, stages=1, warps=8)
    if capability in ((8, 0), HOPPER):
        return Tiles(group, rows=32, stages=3, warps=4 if group == 16 else 8)
    return Tiles(group, rows=32, stages=2, warps=8)


def prompt_tiles(capability: tuple[int, int], dtype: torch.dtype, bulk: bool = True) -> PromptTiles:
    if dtype == torch.float32:
        return PromptTiles(queries=16, keys=16, stages=1, warps=4)
    if capability == HOPPER and bulk:
        return PromptTiles(queries=128, keys=128, stages=2, warps=8, bulk=True)
    if capability == HOPPER:
        return PromptTiles(queries=128, keys=64, stages=3, warps=8)
    if capability == (8, 0):
        return PromptTiles(queries=128, keys=32, stages=3, warps=8)
    return PromptTiles(queries=64, keys=32, stages=2, warps=4)


def overlaps(device: torch.device) -> bool:
    """Whether a kernel may start before its predecessor has ended."""
    return device.type == "cuda" and capability_of(device) >= HOPPER


def capability_of(device: torch.device) -> tuple[int, int]:
    if device.type != "cuda":
        return INTERPRETED_AS
    return torch.cuda.get_device_capability(device)


def _group(heads: int, capability: tuple[int, int]) -> int:
    """Heads of one program: the more, the less often a row is read; accumulators bound them."""
    largest = 64 if capability == HOPPER else 32
    return next(size for size in (16, 32, 64) if size >= min(heads, largest))


def processors(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_PROCESSORS
    return _cuda_processors(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _cuda_processors(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).multi_processor_count)
