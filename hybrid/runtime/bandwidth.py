"""How fast this machine reads its RAM: what decoding is held against."""

from kernels.native import pool


def ram_read_gb_s(threads: int) -> float:
    """What the first `threads` workers of the pool, which decode, read: 1e9 bytes per second.

    The best of several reads: others on the machine only take time, so that the shortest one is the
    nearest to its limit. Takes a GiB of RAM meanwhile, more than any cache holds.
    """
    return pool.read_gb_s(threads)
