"""How fast this machine reads its RAM: what decoding is held against."""

from time import perf_counter

import torch

READ_BYTES = 1 << 28  # larger than the caches
BUDGET_S = 0.3


def ram_read_gb_s(threads: int) -> float:
    """The best of several sums over memory larger than the caches: 1e9 bytes per second.

    Others on the machine only take time, so that the shortest time is the nearest to its limit.
    """
    torch.set_num_threads(threads)
    values = torch.ones(READ_BYTES // 4)
    values.sum()
    best_s, began = float("inf"), perf_counter()
    while perf_counter() - began < BUDGET_S:
        started = perf_counter()
        values.sum()
        best_s = min(best_s, perf_counter() - started)
    return READ_BYTES / best_s / 1e9
