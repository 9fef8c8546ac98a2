"""The demo model's files against stored logits and greedy text of llama.cpp.

bf16, f32      logits of 384 held-out tokens, float32 arithmetic on both sides; the f32 file is made
               from the bf16 one and has the same weights
q8_0, q4_k_m   every fourth position; llama.cpp rounds activations there, so KL and top-1
greedy         tokens of four prompts, while the reference's choice is clear
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import hybrid
from hybrid.runtime.engine import Engine
from tools.conformance.rows import Limits, Row, compare_logits
from tools.write_f32 import write_f32

LIMITS = {
    "bf16": Limits(max_abs=1e-3),
    "f32": Limits(max_abs=1e-3),
    "q8_0": Limits(kl=2e-3, top1=0.97),
    "q4_k_m": Limits(kl=2e-3, top1=0.97),
}
CLEAR_MARGIN = 0.2  # between the best two logits: closer ones may fall either way
FAST_LIMITS = LIMITS | {"bf16": Limits(kl=2e-3, top1=0.97)}  # its activations become bf16
EVERY = {"bf16": 1, "f32": 1, "q8_0": 4, "q4_k_m": 4}
STORED_AS = {"bf16": "f32", "f32": "f32", "q8_0": "q8_0", "q4_k_m": "q4_k_m"}


def check(models: Path, only: str = "", kernels: str = "exact") -> Iterator[Row]:
    """Rows of the files whose row name contains `only`."""
    with np.load(models / "goldens.npz") as arrays:
        stored = dict(arrays)
    greedy = json.loads((models / "greedy.json").read_text(encoding="utf-8"))
    for form, limits in (LIMITS if kernels == "exact" else FAST_LIMITS).items():
        name = f"tiny-tales-{form}"
        if only not in f"{name} greedy":
            continue
        try:
            engine = load(models, form, kernels)
            got = engine.logits(stored["ids"].tolist())[:: EVERY[form]]
            yield compare_logits(name, got, stored[f"logits_{STORED_AS[form]}"], limits)
            yield check_greedy(f"{name} greedy", engine, greedy[STORED_AS[form]])
        except hybrid.HybridError as error:
            yield Row(name, 1, failed=(error.cause,))


def load(models: Path, form: str, kernels: str = "exact") -> Engine:
    """The file of that form; the f32 one exists only while it is read."""
    with TemporaryDirectory() as folder:
        path = models / f"tiny-tales-{form}.gguf"
        if form == "f32":
            path = Path(folder) / path.name
            write_f32(models / "tiny-tales-bf16.gguf", path)
        return hybrid.load(
            path, context=512, cache_format="f32", devices=("none",), kernels=kernels
        )


def check_greedy(name: str, engine: Engine, prompts: dict[str, Any]) -> Row:
    """Cases are the steps compared."""
    cases, failed = 0, []
    for prompt, expected in prompts.items():
        if engine.encode(prompt) != expected["prompt_tokens"]:
            failed.append(f"{prompt!r} encodes differently")
            continue
        tokens = engine.generate(
            expected["prompt_tokens"],
            max_tokens=len(expected["tokens"]),
            temperature=0.0,
            ignore_stop=True,
        )
        steps, wrong = compare_steps(
            [t.id for t in tokens], expected["tokens"], expected["margins"]
        )
        cases += steps
        if wrong is not None:
            failed.append(
                f"{prompt!r} differs at step {wrong}, margin {expected['margins'][wrong]}"
            )
    return Row(name, cases, failed=tuple(failed))


def compare_steps(
    got: list[int], expected: list[int], margins: list[float]
) -> tuple[int, int | None]:
    """How many steps were compared, and the first that differs though its margin is clear.

    After a step that differs the texts are two texts, so the comparison ends there.
    """
    for step, margin in enumerate(margins):
        if step >= len(got) or got[step] != expected[step]:
            return step, step if margin > CLEAR_MARGIN or step >= len(got) else None
    return len(margins), None
