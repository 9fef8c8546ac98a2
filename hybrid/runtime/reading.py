"""The file's bytes into the places that `loader.py` made for them, by a few threads.

contiguous bytes in RAM            straight to their place
a GPU's bytes                      through a reader's own pinned buffer
rows cut over NUMA nodes           through a reader's own buffer, each stretch to its node
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile
from hybrid.runtime.shards import Piece

PIECE_BYTES = (
    16 << 20
)  # large enough to stream from any disk, small enough for a smooth progress bar
READERS = 4

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def read_weights(file: GgufFile, pieces: list[Piece], progress: Progress) -> None:
    """Fill what `place_weights` placed, a few pieces at a time."""
    total = sum(piece.nbytes for piece in pieces)
    reader = _Reader(file)
    done = 0
    progress(done, total)
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="hybrid-load")
    try:
        for nbytes in pool.map(reader.read, pieces):
            done += nbytes
            progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Reader:
    """Reads pieces in any thread; each thread has a buffer of its own where it needs one."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._own = threading.local()

    def read(self, piece: Piece) -> int:
        target = piece.targets[0]
        if len(piece.targets) == 1 and target.device.type == "cpu":
            self._file.read_into(piece.tensor, target.numpy().data, piece.offset, piece.nbytes)
            return piece.nbytes
        buffer = self._buffer(piece.nbytes, pinned=target.device.type != "cpu")
        self._file.read_into(piece.tensor, buffer.numpy().data, piece.offset, piece.nbytes)
        if len(piece.targets) == 1:
            target.copy_(buffer)
            return piece.nbytes
        rows, first = buffer.view(target.shape[0], -1).numpy(), 0
        for part in piece.targets:
            part.numpy()[:] = rows[:, first : first + part.shape[1]]
            first += part.shape[1]
        return piece.nbytes

    def _buffer(self, nbytes: int, *, pinned: bool) -> Tensor:
        name = "pinned" if pinned else "pageable"
        found: Tensor | None = getattr(self._own, name, None)
        if found is None or found.numel() < nbytes:
            size = max(nbytes, PIECE_BYTES)  # more only where one row is longer
            found = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
            setattr(self._own, name, found)
        return found[:nbytes]
