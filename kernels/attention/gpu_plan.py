"""Tiles and splits of GPU decode attention, chosen by plain arithmetic: no tuning at run time.

Tiles follow the architecture's shared memory per block and the number of heads; splits follow the
number of multiprocessors. The figures are those of `tools/bench/gpu_attention.py --sweep`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

SPLIT_GRANULE = 64  # tokens; every BLOCK_N divides it, so that no tile crosses into the next split
CPU_PROCESSORS = 4  # stand in for multiprocessors where kernels are interpreted


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a program of `absorbed_split` computes.

    heads    heads of a group, padded: 16, 32 or 64
    rows     cached rows of a tile (BLOCK_N)
    stages   depth of the load pipeline
    warps    warps of a program
    resident programs that a multiprocessor holds at once
    """

    heads: int
    rows: int
    stages: int
    warps: int
    resident: int


@dataclass(frozen=True, slots=True)
class Splits:
    """How a context is cut, given to the split kernel and to whoever merges.

    cap          splits of the launched grid
    min_tokens   tokens a split has at least, while the context lasts

    tokens_per_split = max(min_tokens, round_up(ceil(seen / cap), SPLIT_GRANULE))
    count            = ceil(seen / tokens_per_split)
    """

    cap: int
    min_tokens: int

    def count(self, seen: int) -> int:
        per_split = -(-seen // self.cap)
        per_split = max(self.min_tokens, -(-per_split // SPLIT_GRANULE) * SPLIT_GRANULE)
        return -(-seen // per_split)
