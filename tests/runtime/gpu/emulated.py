"""Engines on simulated GPUs whose kernels are emulated: the GPU's blocks, graphs and mailboxes, on
CPU tensors. To be called in the process that interprets Triton.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu import blocks
from placement.machines.machine import CPU


def load_emulated(path: Path, **options: Any) -> Engine:
    """`hybrid.load` as if simulated GPUs were real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "has_kernels", lambda home: home.name != CPU)
        return hybrid.load(path, **options)


def parts_of(engine: Engine) -> list[str]:
    """Kinds of the model's blocks and of its ending, in order."""
    kinds = [type(block).__name__ for block in engine._model.blocks]
    return [*kinds, type(engine._model.ending).__name__]


def emulated_logits(
    path: Path, passes: Sequence[Sequence[int]], options: dict[str, Any]
) -> tuple[list[str], np.ndarray]:
    """Of tokens that come in several passes, float32 [tokens, vocabulary]."""
    engine = load_emulated(path, **options)
    rows = [engine.logits(passes[0]), *(engine.extend(ids) for ids in passes[1:])]
    return parts_of(engine), np.concatenate(rows)
