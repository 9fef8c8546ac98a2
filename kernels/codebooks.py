"""Codebooks of the IQ formats, taken from the `gguf` package, which has them as constants.

An entry is a group of 8 (IQ3: 4) small whole numbers; blocks hold entry numbers. IQ1_M has
IQ1_S's.
"""

from functools import lru_cache

import torch
from gguf import quants
from torch import Tensor

_SOURCES = {
    "IQ2_XXS": quants.IQ2_XXS,
    "IQ2_XS": quants.IQ2_XS,
    "IQ2_S": quants.IQ2_S,
    "IQ3_XXS": quants.IQ3_XXS,
    "IQ3_S": quants.IQ3_S,
    "IQ1_S": quants.IQ1_S,
}
NAMES = tuple(_SOURCES)


@lru_cache
def codebook(name: str, device: torch.device) -> Tensor:
    """[entries, group] int8 of the format `name`, one of NAMES, on `device`."""
    source = _SOURCES[name]
    source.init_grid()  # type: ignore[no-untyped-call]
    return torch.from_numpy(source.grid).to(torch.int8).reshape(source.grid_shape).to(device)
