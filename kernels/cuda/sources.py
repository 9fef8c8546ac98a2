"""A kernel's source with all that it includes, for the compilers and for the caches' keys."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernels.errors import KernelInputError

KERNELS = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """path as it is included; folders that includes are looked for in, first to last."""

    path: str
    folders: tuple[Path, ...]

    def text(self) -> str:
        """What is compiled: device.h first, so that a file may leave it out."""
        return f'#include "cuda/device.h"\n#include "{self.path}"\n'

    def files(self) -> list[Path]:
        """Every file of ours that takes part, sorted. Raises KernelInputError without the first."""
        found: set[Path] = set()
        open_names = [self.path, "cuda/device.h"]
        while open_names:
            name = open_names.pop()
            path = self._find(name)
            if path is None:
                if name == self.path:
                    raise KernelInputError(f"no source {name} in {_listed(self.folders)}")
                continue
            if path not in found:
                found.add(path)
                open_names += INCLUDE.findall(path.read_text(encoding="utf-8"))
        return sorted(found)

    def key(self, *more: str) -> str:
        """A hash of the files' contents and of `more`: names, options, versions."""
        digest = hashlib.sha256()
        for path in self.files():
            digest.update(path.read_bytes() + b"\0")
        for part in (self.path, *more):
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:40]

    def _find(self, name: str) -> Path | None:
        candidates = (folder / name for folder in self.folders)
        return next((path for path in candidates if path.is_file()), None)


def _listed(folders: Iterable[Path]) -> str:
    return " or ".join(map(str, folders))
