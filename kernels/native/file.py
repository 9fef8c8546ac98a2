"""Where the compiled library lies. Imports no torch: a plan asks the library which tiers run here
and computes nothing.
"""

import ctypes
from pathlib import Path

from kernels.errors import NativeLibraryMissing

FILE_NAME = "libhybrid_kernels.so"
BUILD = (
    "build it with: make native"
    " (a source tree), or: pip install --force-reinstall --no-deps . (an installation)"
)


def find(folders: tuple[str, ...]) -> Path:
    """The newest library in `folders`.

    A wheel has one folder; an editable installation two, pip's and the source tree, where a later
    build by hand leaves its own.
    """
    found = [path for folder in folders if (path := Path(folder) / FILE_NAME).is_file()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    raise NativeLibraryMissing(f"{FILE_NAME} is not in {' or '.join(folders)}; {BUILD}")


def open_library(path: Path) -> ctypes.CDLL:
    """As it is: nothing typed, nothing checked."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryMissing(f"{path} does not load ({error}); {BUILD}") from error
