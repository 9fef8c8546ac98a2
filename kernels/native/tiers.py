"""Tiers of vector code (tier.h) by name, and which of them this process uses.

A tier is chosen once, by CPUID and what the operating system saves; naming one is for comparing
them on one machine. Imports no torch.
"""

import kernels.native
from kernels.errors import KernelInputError, NativeLibraryMissing
from kernels.native.file import BUILD, find, open_library

NAMES = ("scalar", "avx2", "avx512", "avx512_bf16", "amx")  # by number
BEST_TIER = -1  # kBestTier of tier.h


class _Choice:
    number = BEST_TIER


def here() -> tuple[str, ...]:
    """Those that this processor, its operating system and this build have, the best one last.

    Raises NativeLibraryMissing when there is no library to ask.
    """
    path = find(tuple(kernels.native.__path__))
    has = getattr(open_library(path), "hybrid_has_tier", None)
    if has is None:
        raise NativeLibraryMissing(f"{path} knows no tiers, so it was built from others; {BUILD}")
    return tuple(name for number, name in enumerate(NAMES) if has(number))


def use(name: str | None) -> None:
    """All native calls of this process run in this tier from now on; None: in the best one.

    Raises KernelInputError for a tier that is not here.
    """
    if name is not None and name not in here():
        raise KernelInputError(f"there is no tier {name!r} here; there are {', '.join(here())}")
    _Choice.number = BEST_TIER if name is None else NAMES.index(name)


def current() -> int:
    """The number native functions take."""
    return _Choice.number


def name() -> str:
    """Of the tier in use."""
    return here()[-1] if _Choice.number == BEST_TIER else NAMES[_Choice.number]
