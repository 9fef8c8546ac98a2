"""The demo model by the GPU kernels in every placement: what it says and how well it foretells a
text, against the exact kernels on the CPU.

    margin       the reference's best logit less its second. Where it is above what rounding does to
                 that difference, the greedy token is the reference's
    perplexity   of held-out text, by prompt passes and by decode steps of eight tokens, within
                 0.3 % of the reference's
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.perplexity import score_windows, text_windows
from tests.runtime.gpu.placements import PLACEMENTS, ignored_warnings, need_gpus

pytestmark = [pytest.mark.gpu, ignored_warnings]

CONTEXT = 512
PROMPT, WRITTEN = "It was a dark and stormy night, and the old man said to his daughter", 96
READ_AT_ONCE = 24  # the rest of the text comes token by token
# Rounding is measured as the CPU's fast kernels do it: eight bits an activation, as GPU steps.
MARGIN_DEVIATIONS = 6
LEAST_CLEAR = 32  # steps with that margin, or the test says little
WINDOWS = 32  # of held-out text: rounding alone is worth 0.16 % of the perplexity of eight
MOST_PERPLEXITY = 0.003

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reference:
    """A text that the exact kernels wrote, their logits over it, and the margin of its steps."""

    ids: list[int]
    logits: Logits
    margin: float


def load(**options: Any) -> Engine:
    return hybrid.load("demo", context=CONTEXT, **options)


@pytest.fixture(scope="module")
def exact() -> Engine:
    return load(devices=("none",), kernels="exact", cache_format="f32")


@pytest.fixture(scope="module")
def reference(exact: Engine) -> Reference:
    prompt = exact.encode(PROMPT)
    written = exact.generate(prompt, max_tokens=WRITTEN, seed=3, ignore_stop=True)
    ids = [*prompt, *(token.id for token in written)]
    logits = exact.logits(ids)
    rounded = load(devices=("none",)).logits(ids)
    deviation = float(np.std(lead(rounded, logits) - lead(logits, logits)))
    assert 0 < deviation < 0.5
    return Reference(ids, logits, MARGIN_DEVIATIONS * deviation)


def lead(logits: Logits, reference: Logits) -> Logits:
    """Of each row, the logit of the reference's best less that of its second."""
    second, best = np.argsort(reference)[:, -2:].T
    rows = np.arange(len(logits))
    return logits[rows, best] - logits[rows, second]


@pytest.fixture(scope="module")
def windows(exact: Engine, shared: Path) -> list[list[int]]:
    text = (shared / "models" / "heldout.txt").read_text(encoding="utf-8")
    assert exact.tokenizer is not None
    return text_windows(exact.tokenizer, text, CONTEXT)[:WINDOWS]


@pytest.fixture(scope="module")
def expected_perplexity(exact: Engine, windows: list[list[int]]) -> float:
    return perplexity(exact, windows)


def perplexity(engine: Engine, windows: list[list[int]]) -> float:
    *_, score = score_windows(engine, windows)
    return score.perplexity


@pytest.fixture(scope="module", params=PLACEMENTS)
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    need_gpus(PLACEMENTS[request.param])
    yield PLACEMENTS[request.param]
    gc.collect()  # engines of this placement, before the next one is loaded


@pytest.fixture(scope="module")
def placed(options: dict[str, Any]) -> Engine:
    return load(ubatch=CONTEXT, **options)


def test_greedy_tokens_are_the_references_where_its_margin_is_clear(
    placed: Engine, reference: Reference
) -> None:
    first, rest = reference.ids[:READ_AT_ONCE], reference.ids[READ_AT_ONCE:]
    rows = [placed.logits(first), *(placed.extend([token]) for token in rest)]
    logits = np.concatenate(rows)
    clear = lead(reference.logits, reference.logits) > reference.margin
    assert clear.sum() >= LEAST_CLEAR
    same = logits.argmax(-1) == reference.logits.argmax(-1)
    assert np.flatnonzero(clear & ~same).tolist() == []


def test_greedy_generation_takes_the_greatest_logits(placed: Engine, reference: Reference) -> None:
    prompt = reference.ids[:READ_AT_ONCE]
    placed.forget()
    ids = [
        token.id
        for token in placed.generate(prompt, max_tokens=16, temperature=0, ignore_stop=True)
    ]
    placed.forget()
    rows = [placed.logits(prompt)[-1:], *(placed.extend([token]) for token in ids[:-1])]
    assert np.concatenate(rows).argmax(-1).tolist() == ids


def test_weights_take_what_the_plan_says(placed: Engine, options: dict[str, Any]) -> None:
    for use in placed.plan.devices:
        memory = placed.memories[use.name]
        mapped = options.get("mmap") and use.name == "CPU"
        assert memory.used.get("weights", 0) == (0 if mapped else use.weights_bytes)
        assert memory.used.get("cache", 0) == use.cache_bytes
        kind = "cpu" if use.name == "CPU" else "cuda"
        assert memory.place.torch_device.type == kind


def test_prompt_passes_foretell_a_text_as_well_as_the_reference(
    placed: Engine, windows: list[list[int]], expected_perplexity: float
) -> None:
    assert abs(perplexity(placed, windows) / expected_perplexity - 1) < MOST_PERPLEXITY


def test_decode_steps_foretell_a_text_as_well_as_the_reference(
    options: dict[str, Any], windows: list[list[int]], expected_perplexity: float
) -> None:
    engine = load(ubatch=8, **options)
    if any("reference kernels" in note for note in engine.plan.notes):
        pytest.skip("blocks of this placement have no steps of their own")
    assert abs(perplexity(engine, windows) / expected_perplexity - 1) < MOST_PERPLEXITY


TWO_GPUS = {
    "all on GPUs": ("all on one GPU", "layers over two GPUs"),
    "experts in RAM": ("experts in RAM", "two GPUs and the CPU"),
}


@pytest.mark.parametrize("names", TWO_GPUS.values(), ids=TWO_GPUS.keys())
def test_two_gpus_give_the_tokens_of_one(names: tuple[str, str]) -> None:
    need_gpus(PLACEMENTS[names[1]])
    texts = []
    for name in names:
        engine = load(**PLACEMENTS[name])
        tokens = engine.generate(PROMPT, max_tokens=48, temperature=0, ignore_stop=True)
        texts.append([token.id for token in tokens])
    assert texts[0] == texts[1]
    assert len(set(engine.plan.layers)) == 2
