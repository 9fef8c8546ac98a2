"""The kit's tiny models through the real runtime, against a float64 reference and llama.cpp.

Every file runs twice: as llama.cpp computes, and as the model was trained, which differ for few.
A split model does so opened by its first part; opened by another, it runs as llama.cpp computes.
The prompt goes in as one batch, the rest token by token, so that both paths of attention are
compared.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hybrid
from tools.conformance.rows import Limits, Row, compare_logits

EXACT = Limits(1e-4, 1e-10, 1e-9, gap=1e-3)
HALF = Limits(0.15, 3e-5, 6e-5, gap=0.1)
BFLOAT = Limits(2.0, 1.5e-3, 3e-3, gap=0.4)
EIGHT_BIT = Limits(2.0, 5e-3, 1e-2, gap=0.4)  # activations rounded for quantised weights
DEEP = {
    EXACT: EXACT,
    HALF: Limits(0.3, 1e-4, 2e-4, gap=0.2),
    BFLOAT: Limits(6.0, 2e-2, 4e-2, gap=0.8),
    EIGHT_BIT: Limits(6.0, 2e-2, 4e-2, gap=0.8),
}  # for the files of 27 layers, where differences have longer to grow

Arrays = Mapping[str, NDArray]


def check(kit: Path, only: str = "", kernels: str = "exact") -> Iterator[Row]:
    """Rows of every model file whose name contains `only`; a part of a split file is a file."""
    for path in sorted((kit / "models").glob("*.gguf")):
        golden = kit / "goldens" / f"{first_part(path.stem)}.npz"
        if only in path.stem:
            yield from check_model(path, golden, kernels)


def check_model(path: Path, golden: Path, kernels: str = "exact") -> Iterator[Row]:
    """The conventions of one file; an error of ours is a failed row, not the end."""
    if not golden.is_file():
        yield Row(path.stem, 0, failed=(f"no goldens {golden.name}",))
        return
    with np.load(golden) as arrays:
        stored = dict(arrays)
    for conventions in conventions_of(path.stem):
        name = f"{path.stem} {conventions}"
        try:
            got = run(path, stored, conventions, kernels)
        except hybrid.HybridError as error:
            yield Row(name, 1, failed=(error.cause,))
        else:
            yield from _rows(path.stem, conventions, kernels, got, stored)


def run(
    path: Path, stored: Arrays, conventions: str, kernels: str = "exact", **placed: Any
) -> NDArray[np.float32]:
    """Logits [tokens, vocabulary] of the stored tokens: the prompt at once, the rest one by one.

    placed   options of `hybrid.load` that put the model elsewhere than on the CPU
    """
    ids, prompt = stored["tokens"].tolist(), int(stored["n_prompt"])
    engine = hybrid.load(
        str(path),
        context=len(ids),
        cache_format="f32",
        conventions=conventions,
        kernels=kernels,
        threads=1,  # models this small gain nothing from a second, and lose on a busy machine
        **({"devices": ("none",)} | placed),
    )
    rows = [engine.logits(ids[:prompt])]
    rows += [engine.extend([token]) for token in ids[prompt:]]
    return np.concatenate(rows)


def conventions_of(stem: str) -> tuple[str, ...]:
    """Both; of a split file's further parts, which open the same model, one."""
    return ("llama.cpp", "trained") if stem == first_part(stem) else ("llama.cpp",)


def first_part(stem: str) -> str:
    """The stem of a split file's first part, under which its goldens are stored."""
    return re.sub(r"-\d{5}-of-(\d{5})$", r"-00001-of-\1", stem)


def _rows(stem: str, conventions: str, kernels: str, got: NDArray, stored: Arrays) -> Iterator[Row]:
    """Against the reference of these conventions; as llama.cpp computes, against llama.cpp too."""
    deep = "lite27" in stem
    own = EXACT if kernels == "exact" else limits_by_format(stem)
    within = DEEP[own] if deep else own
    if conventions == "trained" and "logits_ref_hf" in stored:
        yield compare_logits(f"{stem} trained", got, stored["logits_ref_hf"], within)
        return
    yield compare_logits(f"{stem} {conventions}", got, stored["logits_ref"], within, stored["gap"])
    if conventions == "llama.cpp" and "logits_llama" in stored:
        limits = limits_by_format(stem)
        yield compare_logits(
            f"{stem} its output",
            got,
            stored["logits_llama"],
            DEEP[limits] if deep else limits,
            stored["gap"],
        )


def limits_by_format(stem: str) -> Limits:
    """What llama.cpp's arithmetic and fast kernels are allowed, by the file's weight format."""
    for ending, limits in (("-F32", EXACT), ("-F16", HALF), ("-BF16", BFLOAT)):
        if stem.endswith(ending):
            return limits
    return EIGHT_BIT
