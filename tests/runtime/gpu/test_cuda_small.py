"""A tiny model on a GPU, from prompt to text, small enough to be watched by compute-sanitizer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hybrid
from tests.runtime.gpu.placements import ignored_warnings
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, ignored_warnings]

PLACES: dict[str, dict[str, Any]] = {
    "on the GPU": {"rules": [".*=CUDA0"]},
    "experts in RAM": {"rules": ["exps=CPU"]},
    "experts on both": {"rules": ["exps#0-3=CUDA0", "exps=CPU"]},
}
IDS = [(7 * i * i + 3) % 320 for i in range(31)]
PASSES = (17, 1, 3, 2, 8)  # a prompt pass, steps of each size


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("small") / "f32.gguf", type="F32")


@pytest.mark.parametrize("cache_format", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("options", PLACES.values(), ids=PLACES.keys())
def test_prompts_and_steps_of_every_size_agree_with_the_cpu(
    options: dict[str, Any], cache_format: str, model: Path
) -> None:
    usual = {"context": 64, "ubatch": 32, "cache_format": cache_format}
    engine = hybrid.load(model, devices=("CUDA0",), **usual, **options)
    rows, first = [], 0
    for tokens in PASSES:
        rows.append(engine.extend(IDS[first : first + tokens]))
        first += tokens
    reference = hybrid.load(model, devices=("none",), kernels="exact", **usual).logits(IDS)
    error = np.concatenate(rows) - reference
    # Prompt products take bfloat16, and a router's tie may fall either way: the median of tokens.
    nmse = np.median((error**2).sum(-1) / (reference**2).sum(-1))
    assert nmse < 1e-3
