"""What a block of a decode step takes beside its bytes, and how fast attention reads the cache.

Measured with whole blocks of V2-Lite's shape in a replayed graph (`random_blocks.py`): launches,
waits, the router's choice and products too small for the memory's rate are all in it, as in a real
step. Empty kernels would say a third of it.

    block_us      time at depth 0 - weights / (copy * share)
    cache_share   rows / (time at depth DEPTH - time at depth 0), of the copy
"""

import torch

from hybrid.runtime.measuring.gpu_time import graph_us
from hybrid.runtime.measuring.random_blocks import CACHE_ROW_BYTES, RandomBlocks, random_blocks
from placement.machines.speeds_table import MOST_SHARE

BLOCKS = 4  # 70 MB of weights a step in each: more together than any second cache
DEPTH = 16_384
LEAST_BLOCK_US = 1.0
LEAST_SHARE = 0.01


def block_figures(place: torch.device, copy_gb_s: float, product_share: float) -> dict[str, float]:
    """Takes 1.4 GB of the GPU. copy_gb_s, product_share   as measured of it"""
    body = random_blocks(place, dense=0, sparse=BLOCKS, rows=DEPTH + 1)
    shallow_us, deep_us = (_block_us(body, place, depth) for depth in (0, DEPTH))
    reading_us = body.step_bytes / BLOCKS / (copy_gb_s * product_share) / 1e3
    return {
        "block_us": max(shallow_us - reading_us, LEAST_BLOCK_US),
        "cache_share": share_of_copy(deep_us - shallow_us, copy_gb_s),
    }


def share_of_copy(us: float, copy_gb_s: float) -> float:
    """Rate at which DEPTH rows are read in so many us, over the copy's; between LEAST_SHARE and
    MOST_SHARE, which profiles take.
    """
    copied_us = DEPTH * CACHE_ROW_BYTES / copy_gb_s / 1e3
    return min(max(copied_us / max(us, 1e-3), LEAST_SHARE), MOST_SHARE)


def _block_us(body: RandomBlocks, place: torch.device, depth: int) -> float:
    body.at_depth(depth)

    def launches() -> None:
        body.begin()
        body.launch()

    return graph_us(launches, place) / BLOCKS
