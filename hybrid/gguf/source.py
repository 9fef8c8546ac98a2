"""One file on disk: its size, reads at a position, a read-only memory map."""

import contextlib
import mmap
import os
import stat
import threading
import weakref
from pathlib import Path

from hybrid.errors import GgufError
from hybrid.gguf.faults import FETCH_AGAIN

_SHOWN_FILES = 4


class Source:
    """An open file that is only read. Reads at a position are safe from any number of threads.

    path    as given
    nbytes  size of the file when it was opened
    """

    def __init__(self, path: Path, descriptor: int, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._map: memoryview | None = None
        # Also when a caller forgets: a model of 60 parts holds 60 descriptors.
        self._close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Raises GgufError for a missing file, a folder, a pipe, an unreadable or an empty file."""
        try:
            status = path.stat()
            _check_kind(path, status)
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise GgufError(f"there is no file {path}", remedy=_files_beside(path)) from None
        except (OSError, ValueError) as error:
            raise GgufError(
                f"{str(path)!r} cannot be read",
                _reason(error),
                remedy="check the path, its permissions and the disk it is on",
            ) from None
        return cls(path, descriptor, status.st_size)

    def read(self, position: int, buffer: memoryview) -> int:
        """Fill `buffer` (writable) from `position` on; bytes read, fewer only at the file's end."""
        done = 0
        try:
            while done < len(buffer):
                count = self._read_some(position + done, buffer[done:])
                if count == 0:
                    break
                done += count
        except OSError as error:
            raise GgufError(
                f"{self.path} cannot be read",
                f"{len(buffer)} bytes at byte {position}: {_reason(error)}",
                remedy="check the disk or the network share that the file is on",
            ) from None
        return done

    def forget(self, position: int, nbytes: int) -> None:
        """Let the file cache drop these bytes; nothing happens where it cannot be told."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, position, nbytes, os.POSIX_FADV_DONTNEED)

    def map(self) -> memoryview:
        """The whole file, mapped at the first call; stays valid as long as a view of it lives."""
        with self._lock:
            if self._map is None:
                self._map = memoryview(self._mapped())
            return self._map

    def close(self) -> None:
        self._map = None  # unmapped once the last view of it is gone
        self._close()

    def _read_some(self, position: int, buffer: memoryview) -> int:
        if not self._close.alive:
            raise ValueError(f"{self.path} is closed")
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [buffer], position)
        with self._lock, os.fdopen(self._descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(position)
            return file.readinto(buffer) or 0

    def _mapped(self) -> mmap.mmap:
        if not self._close.alive:
            raise ValueError(f"{self.path} is closed")
        try:
            return mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise GgufError(
                f"{self.path} cannot be mapped into memory",
                f"{self.nbytes} bytes: {_reason(error)}",
                remedy="raise the address space limit (ulimit -v) or copy the file to a local disk",
            ) from None


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise GgufError(f"{path} is a folder, not a GGUF file", remedy=_files_in(path))
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise GgufError(
            f"{path} is not a regular file", remedy="give the path of a .gguf file on a disk"
        )
    if status.st_size == 0:
        raise GgufError(f"{path} is empty (0 bytes)", remedy=FETCH_AGAIN)


def _files_beside(path: Path) -> str:
    if path.parent.is_dir():
        return _files_in(path.parent)
    return f"check the path: there is no folder {path.parent} either"


def _files_in(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".gguf"))
    except OSError:
        names = []
    if not names:
        return f"give the path of a .gguf file; {folder} holds none"
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return f"a file of {folder}: {', '.join(names[:_SHOWN_FILES])}{more}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
