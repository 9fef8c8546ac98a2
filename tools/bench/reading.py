"""A model file into memory, in the ways a loader could read it, the file cache cold or warm.

    python -m tools.bench.reading MODEL.gguf [--gib 1] [--readers 1,2,4] [--rounds 4]

cached    through the file cache, which keeps what was read
dropped   through the file cache, each piece dropped from it when it is in its place
direct    past the file cache (O_DIRECT) into a reader's aligned buffer, copied from there
warm      through the file cache, which holds everything already
"""

import argparse
import mmap
import os
import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hybrid.runtime.host_pages import HostPages
from tools.bench.flags import counts, positive
from tools.bench.table import Cell, show

WAYS = ("cached", "dropped", "direct", "warm")
PIECE_BYTES = 16 << 20
BLOCK_BYTES = 4096
SKEW_BYTES = 32  # tensors start on multiples of 32, not on blocks

Read = Callable[[int, memoryview], None]  # position in the file, where to


def main() -> None:
    args = _arguments()
    nbytes = min(int(args.gib * (1 << 30)), args.file.stat().st_size - SKEW_BYTES)
    trials = [(way, count) for way in WAYS for count in args.readers]
    seconds: dict[tuple[str, int], list[float]] = {trial: [] for trial in trials}
    for _ in range(args.rounds):
        for way, count in random.sample(trials, len(trials)):
            seconds[way, count].append(measured(args.file, way, count, nbytes))
    rows: list[list[Cell]] = []
    for (way, count), found in seconds.items():
        rates = [nbytes / s / 1e9 for s in found]
        rows.append([way, count, statistics.median(rates), min(rates), max(rates)])
    show("reading", ("way", "readers", "median GB/s", "least GB/s", "most GB/s"), rows)


def measured(path: Path, way: str, readers: int, nbytes: int) -> float:
    """Seconds to fill fresh memory with the file's first bytes."""
    flags = os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0)
    descriptor = os.open(path, flags)
    read = _direct(descriptor) if way == "direct" else _buffered(descriptor, drop=way == "dropped")
    if way == "warm":
        _fill(read, readers, nbytes)
    else:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    _fill(read, readers, nbytes)
    taken = time.perf_counter() - started
    os.close(descriptor)
    return taken


def _fill(read: Read, readers: int, nbytes: int) -> None:
    pages = HostPages(nbytes)
    target = pages.view()

    def piece(first: int) -> None:
        read(first + SKEW_BYTES, target[first : min(first + PIECE_BYTES, nbytes)])

    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(piece, range(0, nbytes, PIECE_BYTES)))


def _buffered(descriptor: int, *, drop: bool) -> Read:
    def read(position: int, target: memoryview) -> None:
        _read_all(descriptor, position, target)
        if drop:
            os.posix_fadvise(descriptor, position, len(target), os.POSIX_FADV_DONTNEED)

    return read


def _direct(descriptor: int) -> Read:
    own = threading.local()

    def read(position: int, target: memoryview) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = memoryview(mmap.mmap(-1, PIECE_BYTES + 2 * BLOCK_BYTES))
        first = position // BLOCK_BYTES * BLOCK_BYTES
        end = -(-(position + len(target)) // BLOCK_BYTES) * BLOCK_BYTES
        _read_all(descriptor, first, own.buffer[: end - first], position + len(target) - first)
        copied = own.buffer[position - first : position - first + len(target)]
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(copied, np.uint8))

    return read


def _read_all(descriptor: int, position: int, target: memoryview, least: int = 0) -> None:
    """Fill the target; `least` bytes of it are enough where the file ends inside a block."""
    done = 0
    while done < (least or len(target)):
        done += os.preadv(descriptor, [target[done:]], position + done)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--gib", type=float, default=1.0, help="read so much of it")
    parser.add_argument("--readers", type=counts, default=[1, 2, 4], help="threads")
    parser.add_argument("--rounds", type=positive, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
