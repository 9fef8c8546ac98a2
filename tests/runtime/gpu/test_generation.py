"""What the engine does over GPU blocks beside single passes, on emulated GPUs: prompts that end in
a step, truncated sequences, greedy tokens found on the GPU, memory of logits, the meter.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.stats import StepStats
from tests.runtime.gpu.emulated import load_emulated
from tools.make_model import make_model

GIB = 1 << 30
OPTIONS = {"context": 64, "ubatch": 16, "cache_format": "f32", "threads": 1}
ONE, TWO = {"CUDA0": GIB}, {"CUDA0": GIB, "CUDA1": GIB}
HYBRID = {"simulate": ONE, "rules": ["exps=CPU"]}
IDS = [(7 * i * i + 3) % 320 for i in range(35)]  # passes of 16, 16 and 3 tokens
CLOSE = 2e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights that GPU kernels multiply without rounding."""
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.fixture(scope="module")
def reference(model):
    return hybrid.load(model, devices=("none",), kernels="exact", **OPTIONS)


def emulated(path: Path, **options: Any) -> Engine:
    return load_emulated(path, **OPTIONS, **options)


def greedy(engine: Engine, ids: list[int]) -> list[int]:
    return [token.id for token in engine.generate(ids, max_tokens=6, temperature=0)]


def generated(path: Path, prompts: list[list[int]]) -> list[list[int]]:
    engine = emulated(path, **HYBRID)
    return [greedy(engine, prompt) for prompt in prompts]


def test_prompts_that_end_in_a_step_are_continued_as_the_reference_does(
    model, reference, interpreter
):
    prompts = [IDS[:19], IDS[:32], IDS[:3], IDS[:30]]  # the last keeps three tokens' cache rows
    found = interpreter.submit(generated, model, prompts).result()
    assert found == [greedy(reference, prompt) for prompt in prompts]


def cut_and_extended(path: Path) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Logits of IDS; of IDS[20:] appended to its first 20 again; greedy tokens after it."""
    engine = emulated(path, **HYBRID)
    whole = engine.logits(IDS)
    engine.extend([1, 2, 3])
    engine.truncate(20)
    parts = [engine.extend(IDS[20:22]), engine.extend(IDS[22:])]
    return whole, np.concatenate(parts), greedy(engine, IDS)


def test_what_is_appended_after_truncating_steps_is_right(model, reference, interpreter):
    whole, appended, tokens = interpreter.submit(cut_and_extended, model).result()
    wanted = reference.logits(IDS)
    np.testing.assert_allclose(whole, wanted, atol=CLOSE)
    np.testing.assert_allclose(appended, wanted[20:], atol=CLOSE)
    assert tokens == greedy(reference, IDS)


def greatest_of_steps(path: Path) -> tuple[list[tuple[int, float] | None], list[np.ndarray]]:
    engine = emulated(path, **HYBRID)
    found, rows = [], []
    for ids in (IDS[:16], IDS[16:17], IDS[17:20], IDS[20:28]):
        rows.append(engine.extend(ids)[-1])
        found.append(engine._model.ending.greatest())
    return found, rows


def test_the_greatest_logit_of_a_step_is_known_without_its_row(model, interpreter):
    found, rows = interpreter.submit(greatest_of_steps, model).result()
    assert found[0] is None  # of a prompt
    assert found[1:] == [(row.argmax(), row.max()) for row in rows[1:]]


def kept_passes(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows of each pass as it came, and as they are after the last one."""
    engine = emulated(path, simulate=ONE, rules=[".*=CUDA0"])
    kept, copied = [], []
    for ids in (IDS[:2], IDS[2:4]):  # twice the step of the same size
        kept.append(engine.extend(ids))
        copied.append(kept[-1].copy())
    engine.forget()
    for rows in engine.passes(IDS[:19]):
        kept.append(rows.numpy())
        copied.append(rows.numpy().copy())
    list(engine.generate(IDS[:3], max_tokens=2, temperature=0))
    return kept, copied


def test_logits_that_a_caller_holds_are_not_written_over(model, interpreter):
    kept, copied = interpreter.submit(kept_passes, model).result()
    assert [len(rows) for rows in kept] == [2, 2, 16, 3]
    for held, as_it_came in zip(kept, copied, strict=True):
        np.testing.assert_array_equal(held, as_it_came)


# Of one decode step: 64 values of width, 3 experts chosen in two of three blocks.
WIDTH, CHOICE = 4 * 64, 4 * 3  # bytes; a choice has a number and a share
CROSSINGS = {
    "all on one GPU": ({"simulate": ONE, "rules": [".*=CUDA0"]}, WIDTH),
    "experts in RAM": (HYBRID, WIDTH + 2 * 2 * (WIDTH + CHOICE)),
    "experts of the second block in RAM": (
        {"simulate": ONE, "rules": [r"blk\.1\..*exps=CPU", "exps=GPU"]},
        WIDTH + 2 * (WIDTH + CHOICE),
    ),
    "layers over two GPUs": (
        {
            "simulate": TWO,
            "rules": [r"blk\.[01]\..*attn=CUDA0", r"blk\.2\..*attn=CUDA1", "exps=GPU"],
        },
        WIDTH + WIDTH,
    ),
}


def steps_of(path: Path, options: dict[str, Any]) -> list[StepStats]:
    engine = emulated(path, **options)
    return [token.stats for token in engine.generate(IDS[:3], max_tokens=4, temperature=0)]


@pytest.mark.parametrize(("options", "crossed"), CROSSINGS.values(), ids=CROSSINGS.keys())
def test_time_and_bytes_of_a_step_are_charged_to_the_devices_of_the_plan(
    options, crossed, model, interpreter
):
    steps = interpreter.submit(steps_of, model, options).result()
    stats = steps[-1]
    assert stats.crossing_bytes == crossed
    assert set(stats.device_seconds) >= set(options["simulate"])
    assert all(seconds >= 0 for seconds in stats.device_seconds.values())
    shares = [sum(step.device_seconds.values()) / step.seconds for step in steps]
    assert max(shares) <= 1
    assert max(shares) > 0.8, "no step's time is nearly all the devices'"
