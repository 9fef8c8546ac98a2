"""Run a model file over plain parts, in steps of given sizes."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hybrid.models.config import ModelConfig
from hybrid.models.parts import Step
from hybrid.models.registry import builder
from tests.models.plain_parts import PlainCache, PlainFile, PlainParts

ABSORBED, EXPANDED = 1 << 30, 0  # for absorb_up_to


def logits_of(
    path: Path,
    ids: Sequence[int],
    steps: Sequence[int],
    *,
    conventions: str = "trained",
    **options: int | None,
) -> Tensor:
    """[tokens, vocabulary], the tokens fed in steps of these sizes."""
    file = PlainFile(path)
    config = ModelConfig.from_gguf(file, conventions)
    model = builder(config.architecture)(config, PlainParts(file), **options)
    caches = [
        PlainCache(torch.full((len(ids), config.cache_row_length), torch.nan))
        for _ in range(config.layers)
    ]
    assert sum(steps) == len(ids)
    found, start = [], 0
    for tokens in steps:
        chunk = torch.tensor(ids[start : start + tokens])
        found.append(model.logits(chunk, Step(start, tokens), caches, tokens))
        start += tokens
    return torch.cat(found)
