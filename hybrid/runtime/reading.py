"""The file's bytes into the places that `loader.py` made for them, by a few threads.

    contiguous bytes in RAM            straight to their place
    a GPU's bytes                      through a reader's own pinned buffer
    rows cut over NUMA nodes           through a reader's own buffer, each stretch to its node

Where RAM has no room for the file beside the weights, what was read is dropped from the file cache
at once: a cache that fills up anyway makes the kernel search for pages while we load, and on a
machine with several nodes takes the place of pages that belong there.

Refused: reading past the cache (O_DIRECT). Weights do not start on a disk's block, so it needs a
copy of its own; it was slower than dropping and leaves nothing for a second load (docs/log.md).
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile
from hybrid.runtime.shards import Piece

PIECE_BYTES = (
    16 << 20
)  # large enough to stream from any disk, small enough for a smooth progress bar
MOST_READERS = 8

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class ReadHow:
    """How the file is read.

    readers   threads; more than the CPUs only get into each other's way
    forget    drop from the file cache what was read
    """

    readers: int = 2
    forget: bool = False


def read_weights(
    file: GgufFile, pieces: list[Piece], progress: Progress, how: ReadHow | None = None
) -> None:
    """Fill what `place_weights` placed, a few pieces at a time."""
    how = how or ReadHow()
    total = sum(piece.nbytes for piece in pieces)
    reader = _Reader(file)
    done = 0
    progress(done, total)

    def read(piece: Piece) -> int:
        reader.read(piece)
        if how.forget:
            file.forget(piece.tensor, piece.offset, piece.nbytes)
        return piece.nbytes

    pool = ThreadPoolExecutor(how.readers, thread_name_prefix="hybrid-load")
    try:
        for nbytes in pool.map(read, pieces):
            done += nbytes
            progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Reader:
    """Reads pieces in any thread; each thread has a buffer of its own where it needs one."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._own = threading.local()

    def read(self, piece: Piece) -> None:
        target = piece.targets[0]
        if len(piece.targets) == 1 and target.device.type == "cpu":
            self._fill(target, piece)
            return
        buffer = self._buffer(piece.nbytes, pinned=target.device.type != "cpu")
        self._fill(buffer, piece)
        if len(piece.targets) == 1:
            target.copy_(buffer)
            return
        rows, first = buffer.view(target.shape[0], -1).numpy(), 0
        for part in piece.targets:
            part.numpy()[:] = rows[:, first : first + part.shape[1]]
            first += part.shape[1]

    def _fill(self, target: Tensor, piece: Piece) -> None:
        self._file.read_into(piece.tensor, target.numpy().data, piece.offset, piece.nbytes)

    def _buffer(self, nbytes: int, *, pinned: bool) -> Tensor:
        name = "pinned" if pinned else "pageable"
        found: Tensor | None = getattr(self._own, name, None)
        if found is None or found.numel() < nbytes:
            size = max(nbytes, PIECE_BYTES)  # more only where one row is longer
            found = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
            setattr(self._own, name, found)
        return found[:nbytes]
