"""The file's bytes into the places that `loader.py` made for them, by a few threads.

    contiguous bytes in RAM      straight to their place
    a GPU's bytes                through pinned buffers, while reading goes on (`uploading.py`)
    rows cut over NUMA nodes     through a reader's own buffer, each stretch to its node
    rows wanted in planes        sorted as they arrive, a few at a time

Where RAM has no room for the file beside the weights, what was read is dropped from the file cache
at once: a cache that fills up anyway makes the kernel search for pages while we load, and on a
machine with several nodes takes the place of pages that belong there.

Refused: reading past the cache (O_DIRECT). Weights do not start on a disk's block, so it needs a
copy of its own; it was slower than dropping and leaves nothing for a second load (docs/log.md).
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile
from hybrid.runtime.pinning import Pinning
from hybrid.runtime.shards import Piece
from hybrid.runtime.uploading import PlaneRows, Uploads
from kernels.planar import PlanarTensor, as_in_file

PIECE_BYTES = (
    16 << 20
)  # large enough to stream from any disk, small enough for a smooth progress bar

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
    file: GgufFile,
    pieces: Sequence[Piece],
    progress: Progress,
    how: ReadHow | None = None,
    planes: Mapping[int, PlanarTensor] | None = None,
    pinning: Pinning | None = None,
) -> None:
    """Fill what `place_weights` placed, a few pieces at a time.

    planes    by the address of a tensor's memory the planes that this memory is to hold, whole;
              pieces of such a tensor are of whole rows. Other memory gets the file's bytes.
    pinning   pins the host's memory as it fills, and is finished here

    Returns when all of it is there, on GPUs too. On a GPU takes `uploading.staging_bytes`.
    """
    how = how or ReadHow()
    total = sum(piece.nbytes for piece in pieces)
    reader = _Reader(file, pieces, _Planes(planes or {}), how.readers)
    done = 0
    progress(done, total)

    def read(piece: Piece) -> int:
        reader.read(piece)
        if how.forget:
            file.forget(piece.tensor, piece.offset, piece.nbytes)
        if pinning:
            for target in piece.targets:
                pinning.arrived(target)
        return piece.nbytes

    pool = ThreadPoolExecutor(how.readers, thread_name_prefix="hybrid-load")
    try:
        for nbytes in pool.map(read, pieces):
            done += nbytes
            progress(done, total)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        try:
            reader.finish()
        finally:
            if pinning:  # its thread holds the arenas
                pinning.finish(rest=done == total)


class _Planes:
    """Finds where a piece belongs among planes, by the address of its target."""

    def __init__(self, planes: Mapping[int, PlanarTensor]) -> None:
        self._planes = {
            at: planar for at, planar in planes.items() if not as_in_file(planar.format)
        }
        self._starts = sorted(self._planes)

    def rows(self, target: Tensor) -> PlaneRows | None:
        """None for memory that gets bytes as they are in the file."""
        before = bisect_right(self._starts, target.data_ptr())
        if not before:
            return None
        start = self._starts[before - 1]
        planar, offset = self._planes[start], target.data_ptr() - start
        if offset >= planar.nbytes:
            return None
        first, rest = divmod(offset, planar.format.row_bytes(planar.columns))
        assert rest == 0, "pieces of planar tensors are whole rows"
        return PlaneRows(planar, first)


class _Reader:
    """Reads pieces in any thread; each thread has a buffer of its own where it needs one."""

    def __init__(
        self, file: GgufFile, pieces: Sequence[Piece], planes: _Planes, readers: int
    ) -> None:
        self._file = file
        self._planes = planes
        self._own = threading.local()
        to_gpus = [piece.targets[0] for piece in pieces if _on_gpu(piece)]
        staged = {target.device for target in to_gpus if planes.rows(target)}
        self._uploads = Uploads({target.device for target in to_gpus}, staged, readers)

    def read(self, piece: Piece) -> None:
        target = piece.targets[0]
        if len(piece.targets) > 1:
            self._read_stretches(piece)
            return
        rows = self._planes.rows(target)
        if _on_gpu(piece):
            self._uploads.upload(lambda buffer: self._fill(buffer, piece), target, rows)
        elif rows is None:
            self._fill(target, piece)
        else:
            buffer = self._buffer(piece.nbytes)
            self._fill(buffer, piece)
            rows.place(buffer)

    def finish(self) -> None:
        """Until every byte is in its place."""
        self._uploads.finish()

    def _read_stretches(self, piece: Piece) -> None:
        buffer = self._buffer(piece.nbytes)
        self._fill(buffer, piece)
        rows, first = buffer.view(piece.targets[0].shape[0], -1).numpy(), 0
        for part in piece.targets:
            part.numpy()[:] = rows[:, first : first + part.shape[1]]
            first += part.shape[1]

    def _fill(self, target: Tensor, piece: Piece) -> None:
        self._file.read_into(piece.tensor, target.numpy().data, piece.offset, piece.nbytes)

    def _buffer(self, nbytes: int) -> Tensor:
        found: Tensor | None = getattr(self._own, "buffer", None)
        if found is None or found.numel() < nbytes:
            # more than PIECE_BYTES only where one row is longer
            found = torch.empty(max(nbytes, PIECE_BYTES), dtype=torch.uint8)
            self._own.buffer = found
        return found[:nbytes]


def _on_gpu(piece: Piece) -> bool:
    return piece.targets[0].device.type == "cuda"
