"""What torch's allocator took of a GPU at most, from loading on, against the plan."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import hybrid
from hybrid.runtime.audit import audit_engine
from hybrid.runtime.engine import Engine
from placement.memory.parts import OTHER, device_parts
from placement.report.audit import TOTAL, planned_bytes
from tests.runtime.gpu.placements import ignored_warnings
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, ignored_warnings]

SHARE, MOST_BYTES = 0.02, 200 << 20  # whichever is more may lie between plan and peak
DECODED = 16
SHORT = (9, 37, 200)  # tokens of prompts whose tensors torch's pool keeps apart, as small ones
# Experts make up half of its 265 MB, a micro-batch of logits is 65 MB.
MADE = {
    "layers": 6,
    "width": 1024,
    "heads": 16,
    "nope": 128,
    "rope": 64,
    "value": 128,
    "latent": 512,
    "query_latent": 512,
    "feed_forward": 4096,
    "experts": 32,
    "used": 4,
    "expert_feed_forward": 256,
    "tokens": 32000,
    "vocabulary": False,
    "context": 8192,
}
CASES: dict[str, dict[str, Any]] = {
    "demo, all on the GPU": {"model": "demo", "context": 1024, "rules": [".*=CUDA0"]},
    "demo, experts in RAM": {"model": "demo", "context": 1024, "rules": ["exps=CPU"]},
    "made, all on the GPU": {"context": 8192, "rules": [".*=CUDA0"]},
    "made, experts in RAM": {"context": 8192, "rules": ["exps=CPU"]},
    "made, experts in RAM, q8_0 cache": {
        "context": 8192,
        "rules": ["exps=CPU"],
        "cache_format": "q8_0",
        "ubatch": 64,
    },
}


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes of the GPU, above what stood before loading.

    planned    all of it that torch's pool gives out
    allocated  the most that tensors held at a time, through loading, prompts and decode
    reserved   the most that torch's pool held
    late       how often the driver was asked for more after loading
    """

    planned: int
    allocated: int
    reserved: int
    late: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("memory") / "made.gguf", **MADE)


@pytest.fixture(scope="module", params=CASES)
def peak(request: pytest.FixtureRequest, made: Path) -> Peak:
    options = dict(CASES[request.param])
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    engine = hybrid.load(options.pop("model", made), devices=("CUDA0",), **options)
    segments = torch.cuda.memory_stats()["segment.all.allocated"]
    fill_the_context(engine)
    return Peak(
        planned=planned_of_the_pool(engine),
        allocated=torch.cuda.max_memory_allocated() - allocated,
        reserved=torch.cuda.max_memory_reserved() - reserved,
        late=torch.cuda.memory_stats()["segment.all.allocated"] - segments,
    )


def planned_of_the_pool(engine: Engine) -> int:
    prepared = engine.prepared
    parts = device_parts(prepared.plan, prepared.inventory, prepared.machine)["CUDA0"]
    planned = planned_bytes(parts)
    return planned[TOTAL] - planned[OTHER]


def fill_the_context(engine: Engine) -> None:
    """Whole micro-batches, with all their logits, to the end of the context; the last tokens again
    one by one; then short prompts.
    """
    vocabulary = engine.prepared.config.vocabulary
    ids = [(7 * i * i + 3) % vocabulary for i in range(engine.context_tokens)]
    for _ in engine.passes(ids):
        pass
    engine.truncate(len(ids) - DECODED)
    for token in ids[-DECODED:]:
        engine.extend([token])
    for count in SHORT:
        engine.truncate(0)
        engine.fill(ids[:count])


def test_the_peak_is_what_the_plan_says(peak: Peak) -> None:
    allowed = max(MOST_BYTES, SHARE * peak.planned)
    assert abs(peak.allocated - peak.planned) <= allowed, peak
    assert peak.reserved - peak.planned <= allowed, peak


def test_an_audit_after_a_run_finds_the_gpus_bytes(made: Path) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    engine = hybrid.load(made, devices=("CUDA0",), context=2048, rules=["exps=CPU"])
    engine.fill([1] * 600)
    lines = {line.category: line for line in audit_engine(engine).memory if line.device == "CUDA0"}
    assert lines["weights"].actual_bytes == lines["weights"].planned_bytes
    assert lines["cache"].actual_bytes == lines["cache"].planned_bytes
    assert not lines["compute"].is_off
    assert lines["other"].actual_bytes >= 0


def test_nothing_is_taken_of_the_gpu_after_loading(peak: Peak) -> None:
    assert peak.late == 0, peak
