"""`GgufFile`: a model file, or all parts of a split one, as metadata and one tensor table.

Opening reads headers only. A header alone is enough to plan with, so a file whose tensor data are
missing or cut opens too; `require_data` is the question that a loader asks. Nothing in a file is
believed: every count, length, type and offset is held against the bytes that are there before it is
used (cursor.py, metadata.py, table.py).
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType

from hybrid.errors import GgufError
from hybrid.gguf.faults import quoted
from hybrid.gguf.header import Header, read_header
from hybrid.gguf.metadata import REQUIRED, Default, Metadata, Value
from hybrid.gguf.source import Source
from hybrid.gguf.split import check_part, joined_tensors, part_paths
from hybrid.gguf.table import GgufTensor

__all__ = ["GgufFile", "GgufTensor", "Value"]


class GgufFile:
    """An open model file.

    path        as given to `open`, any part of a split model
    paths       all parts, in order
    part_bytes  their sizes when they were opened
    version     2 or 3
    alignment   bytes; tensors of the first part start at multiples of it
    metadata    the first part's keys; its `get_int` and `get_str` exist here too
    tensors     by name, in file order, parts in order
    """

    def __init__(
        self, path: Path, sources: tuple[Source, ...], headers: tuple[Header, ...]
    ) -> None:
        self.path = path
        self.paths = tuple(source.path for source in sources)
        self.part_bytes = tuple(source.nbytes for source in sources)
        self.version = headers[0].version
        self.alignment = headers[0].alignment
        self.metadata: Metadata = headers[0].metadata
        self.tensors: Mapping[str, GgufTensor] = MappingProxyType(
            joined_tensors(self.paths, headers)
        )
        self._sources = sources

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "GgufFile":
        """Open a file, or a split model by any of its parts.

        Raises GgufError for what is not a sound GGUF, UnsupportedModel for tensors of a format that
        `kernels.formats` does not list.
        """
        given = Path(path)
        with ExitStack() as opened:
            source, header = _open_part(given, opened)
            paths = part_paths(given, header)
            sources, headers = [], []
            for part, part_path in enumerate(paths):
                if part != header.part:
                    other, other_header = _open_part(part_path, opened)
                    check_part(part_path, other_header, part, len(paths))
                    sources.append(other)
                    headers.append(other_header)
                else:
                    sources.append(source)
                    headers.append(header)
            file = cls(given, tuple(sources), tuple(headers))
            opened.pop_all()
        return file

    @property
    def architecture(self) -> str:
        """`general.architecture`; GgufError when absent."""
        return self.get_str("general.architecture")

    @property
    def data_bytes_present(self) -> bool:
        """False when a part ends before its tensors do."""
        return all(self._is_present(tensor) for tensor in self.tensors.values())

    def get_int(self, key: str, default: Default = REQUIRED) -> int | Default:
        return self.metadata.get_int(key, default)

    def get_str(self, key: str, default: Default = REQUIRED) -> str | Default:
        return self.metadata.get_str(key, default)

    def read_into(
        self, tensor: GgufTensor, buffer: memoryview, offset: int = 0, nbytes: int | None = None
    ) -> None:
        """Copy bytes of a tensor from disk into the front of `buffer`; any number of threads may.

        buffer   writable, contiguous, at least `nbytes` long
        offset   first byte wanted, counted from the tensor's start
        nbytes   None for all that follow

        Raises GgufError when the file is cut or unreadable, ValueError when the range is not the
        tensor's.
        """
        count = tensor.nbytes - offset if nbytes is None else nbytes
        if offset < 0 or count < 0 or offset + count > tensor.nbytes:
            raise ValueError(
                f"bytes {offset} + {count} of {tensor.name}, which has {tensor.nbytes}"
            )
        target = buffer.cast("B")
        if len(target) < count:
            raise ValueError(f"a buffer of {len(target)} bytes for {count} of {tensor.name}")
        self._require(tensor)
        done = self._sources[tensor.part].read(tensor.offset + offset, target[:count])
        if done < count:
            raise self._cut(tensor, tensor.offset + offset + done)

    def forget(self, tensor: GgufTensor, offset: int, nbytes: int) -> None:
        """Let the system's file cache drop bytes of a tensor that will not be read again soon."""
        self._sources[tensor.part].forget(tensor.offset + offset, nbytes)

    def data(self, tensor: GgufTensor) -> memoryview:
        """A tensor's bytes without a copy: a read-only view that outlives `close`."""
        self._require(tensor)
        return self._sources[tensor.part].map()[tensor.offset : tensor.end]

    def require_data(self) -> None:
        """Raise GgufError when any tensor's data are not all there."""
        for tensor in self.tensors.values():
            self._require(tensor)

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def __enter__(self) -> "GgufFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _is_present(self, tensor: GgufTensor) -> bool:
        return tensor.end <= self._sources[tensor.part].nbytes

    def _require(self, tensor: GgufTensor) -> None:
        if not self._is_present(tensor):
            raise self._cut(tensor, self._sources[tensor.part].nbytes)

    def _cut(self, tensor: GgufTensor, file_end: int) -> GgufError:
        there = max(0, file_end - tensor.offset)
        return GgufError(
            f"{self.paths[tensor.part]} is cut: tensor {quoted(tensor.name)} is not all there",
            f"{tensor.nbytes} bytes expected at byte {tensor.offset}, {there} there",
            remedy=(
                "finish the download, or fetch the file again",
                "plan with it only: `hybrid plan` and `hybrid inspect` need no tensor data",
            ),
        )


def _open_part(path: Path, opened: ExitStack) -> tuple[Source, Header]:
    source = Source.open(path)
    opened.callback(source.close)
    return source, read_header(source)
