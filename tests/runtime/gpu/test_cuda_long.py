"""One captured graph over a whole context: thousands of tokens, decoded one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import hybrid
from hybrid.runtime.engine import Engine
from hybrid.runtime.stats import StepStats
from tests.runtime.gpu.placements import ignored_warnings
from tools.conformance.models import BFLOAT
from tools.conformance.rows import compare_logits
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, ignored_warnings]

CONTEXT, TOKENS = 5120, 5000
PROMPT = [3]  # a step too: no token is read by a prompt pass
# So many tokens from each of these on: a router's tie among one of them may fall either way.
POSITIONS, NEIGHBOURS = (1, 100, 1000, 4990), 9
PLACES: dict[str, dict[str, Any]] = {
    "on the GPU": {"rules": [r"exps=GPU"]},
    "experts in RAM": {"rules": ["exps=CPU"]},
}
# What the driver or torch's pool was asked for; the pool's own count where this torch has it.
COUNTED = ("num_device_alloc", "segment.all.allocated", "allocation.all.allocated")


@dataclass(frozen=True, slots=True)
class Long:
    """An engine that has decoded TOKENS tokens in one go.

    rows        logits by position of the token they follow, of those near POSITIONS
    allocated   what was taken of the GPU's memory after the first token, by COUNTED
    """

    engine: Engine
    ids: list[int]
    rows: dict[int, NDArray[np.float32]]
    allocated: dict[str, int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Attention as wide as the real models', weights that steps multiply without rounding."""
    wide = {"heads": 16, "latent": 512, "rope": 64, "nope": 128, "value": 128}
    path = tmp_path_factory.mktemp("long") / "bf16.gguf"
    return make_model(path, type="BF16", context=2 * CONTEXT, yarn=None, **wide)


@pytest.fixture(scope="module", params=PLACES)
def decoded(request: pytest.FixtureRequest, model: Path) -> Iterator[Long]:
    options = {"context": CONTEXT, "cache_format": "bf16", "devices": ("CUDA0",)}
    engine = hybrid.load(model, **options, **PLACES[request.param])
    rows: dict[int, NDArray[np.float32]] = {}
    run = engine._pass

    def kept(ids: list[int], rows_asked: int, *, prompt: bool) -> tuple[StepStats, Tensor]:
        stats, found = run(ids, rows_asked, prompt=prompt)
        if any(first <= stats.start < first + NEIGHBOURS for first in POSITIONS):
            rows[stats.start] = found[-1].numpy().copy()
        return stats, found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_pass", kept)
        patch.setattr(torch.cuda.CUDAGraph, "capture_begin", captured_again)
        stream = engine.generate(PROMPT, max_tokens=TOKENS, temperature=1, seed=5, ignore_stop=True)
        ids = [*PROMPT, next(stream).id]
        before = taken()
        ids += [token.id for token in stream]
        after = taken()
    yield Long(engine, ids, rows, {name: after[name] - before[name] for name in before})
    engine.forget()


def captured_again(*_: object, **__: object) -> None:
    raise AssertionError("graphs are captured while loading")


def taken() -> dict[str, int]:
    stats = torch.cuda.memory_stats()
    return {name: stats[name] for name in COUNTED if name in stats}


def test_a_graph_replayed_over_the_whole_context_is_right_everywhere(decoded: Long) -> None:
    """Against prompt passes over the same ids: median of the neighbours, all of them finite."""
    assert len(decoded.ids) == 1 + TOKENS
    assert len(set(decoded.ids[-500:])) > 50, "a text that repeats itself tests little"
    fresh = decoded.engine.logits(decoded.ids)
    for first in POSITIONS:
        places = range(first, first + NEIGHBOURS)
        found = np.stack([decoded.rows[place] for place in places])
        assert np.isfinite(found).all()
        compared = [
            compare_logits(str(place), row[None], fresh[place][None], BFLOAT)
            for place, row in zip(places, found, strict=True)
        ]
        assert BFLOAT.nmse > float(np.median([row.nmse for row in compared])), compared
        assert BFLOAT.kl > float(np.median([row.kl for row in compared])), compared


def test_decoding_takes_no_memory_of_the_gpu(decoded: Long) -> None:
    assert "segment.all.allocated" in decoded.allocated
    assert set(decoded.allocated.values()) == {0}, decoded.allocated


def test_single_steps_at_any_depth_repeat_what_the_long_run_computed(decoded: Long) -> None:
    decoded.engine.forget()
    decoded.engine.fill(decoded.ids[:1])
    for place in range(1, POSITIONS[1] + 1):
        row = decoded.engine.extend([decoded.ids[place]])[0]
        if place in decoded.rows:
            np.testing.assert_allclose(row, decoded.rows[place], atol=1e-3)
