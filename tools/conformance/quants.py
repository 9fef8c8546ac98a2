"""Every block format: bytes that ggml wrote, and random ones, decoded bit for bit as it does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import IMPLEMENTATIONS, dequantize
from kernels.formats import BY_NAME
from tools.conformance.rows import Row


def check(kit: Path, only: str = "") -> Iterator[Row]:
    """A row per format and implementation; cases are weights."""
    with np.load(kit / "quants" / "quants.npz") as arrays:
        stored = dict(arrays)
    for key in stored:
        name = key.removesuffix("_bytes")
        if key == name or only not in f"format {name}":
            continue
        pairs = [(stored[key], stored[f"{name}_deq"])]
        pairs.append((stored[f"rand_{name}"], stored[f"rand_{name}_deq"]))
        for implementation in IMPLEMENTATIONS:
            yield _row(name, implementation, pairs)


def _row(name: str, implementation: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Row:
    title = f"format {name} {implementation}"
    if name not in BY_NAME:
        return Row(title, 1, failed=("unknown format",))
    cases = different = 0
    for blocks, expected in pairs:
        weight = BlockTensor(torch.from_numpy(blocks), BY_NAME[name], expected.shape[-1])
        got = dequantize(weight, implementation=implementation).numpy()
        # As integers: -0.0 is not 0.0 here, and a NaN equals itself.
        unequal = got.view(np.uint32) != expected.view(np.uint32)
        different += int((unequal & ~(np.isnan(got) & np.isnan(expected))).sum())
        cases += expected.size
    return Row(title, cases, failed=(f"{different} weights differ",) if different else ())
