"""Shares the rows of a native call among threads.

ctypes gives the interpreter lock back, so Python threads are enough; but waking one takes 100 us
and more on an idle core, which sets the smallest share worth handing over.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache

import torch

# 130 us of Q4_K, decoded and multiplied with one token; quarters lost to one thread.
SMALLEST_SHARE_WEIGHTS = 1 << 19


class _Threads:
    count = 0


def use_threads(count: int) -> None:
    """How many threads native calls of this process may use from now on, the calling one among
    them; 0: as many as torch has.

    Apart from torch's number, which a caller may lower for small work: torch's waiting threads
    spin, and take the cores that these need when the machine is busy.
    """
    _Threads.count = count


def over_rows(run: Callable[[int, int], object], rows: int, weights: int) -> None:
    """run(begin, end) over 0 .. rows in as many equal shares as threads pay.

    weights   how many weights all rows together decode
    Threads: at most as many as `use_threads` said, else torch.get_num_threads().

    Returns and raises only when every share has ended: a share writes through bare pointers into
    tensors that the caller may free as soon as it has control again, after Ctrl-C too.
    """
    threads = _Threads.count or torch.get_num_threads()
    shares = min(threads, weights // SMALLEST_SHARE_WEIGHTS, rows)
    if shares <= 1:
        run(0, rows)
        return
    edges = [rows * share // shares for share in range(shares + 1)]
    pool = _pool(threads - 1)
    others: list[Future[object]] = []
    try:
        for share in range(1, shares):
            others.append(pool.submit(run, edges[share], edges[share + 1]))
        run(edges[0], edges[1])
    finally:
        _wait_for(others)
    for other in others:
        other.result()


def _wait_for(shares: list[Future[object]]) -> None:
    """Until all have ended; what interrupts the waiting leaves only then."""
    try:
        wait(shares)
    finally:
        if not all(share.done() for share in shares):
            _wait_for(shares)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hybrid-kernels")


# A forked child has the pool's object but none of its threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
