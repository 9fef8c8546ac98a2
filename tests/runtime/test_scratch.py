"""What a pass allocates beside weights and cache, as torch counts it, against the plan."""

from pathlib import Path

import pytest
from torch.profiler import ProfilerActivity, profile

import hybrid
from tools.make_model import make_model

MIB = 1 << 20
CONTEXT = 4096


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads and cache rows as wide as the real models', the rest small."""
    folder = tmp_path_factory.mktemp("scratch")
    return make_model(
        folder / "wide.gguf", layers=2, heads=16, latent=512, rope=64, context=CONTEXT
    )


def peak_bytes(engine: "hybrid.Engine", ids: list[int]) -> int:
    """The most bytes that stand at a time above those that stood before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        engine.extend(ids)
    standing = peak = 0
    results = found.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        standing += event.nbytes()
        peak = max(peak, standing)
    assert peak > 0
    return peak


@pytest.mark.parametrize(("ubatch", "work_mib"), [(64, 32), (64, 1), (16, 256)])
def test_a_pass_stays_within_the_planned_scratch(wide: Path, ubatch: int, work_mib: int) -> None:
    engine = hybrid.load(
        wide,
        context=CONTEXT,
        ubatch=ubatch,
        attention_work_bytes=work_mib * MIB,
        simulate={"CUDA0": 8 << 30},  # where torch computes; the CPU's own kernels reserve theirs
        rules=[".*=CUDA0"],
    )
    engine._cached_ids = [1] * (CONTEXT - ubatch)  # as if read: their rows' values play no part
    planned = next(use for use in engine.plan.devices if use.name == "CUDA0").compute_bytes
    peak = peak_bytes(engine, [1] * ubatch)
    assert 0.1 * planned <= peak <= planned


@pytest.mark.parametrize("kernels", ["fast", "exact"])
@pytest.mark.parametrize(("ubatch", "context", "threads"), [(512, 4096, 2), (7, 300, 1), (1, 9, 2)])
def test_native_scratch_is_within_the_planned_bytes(
    wide: Path, kernels: str, ubatch: int, context: int, threads: int
) -> None:
    engine = hybrid.load(
        wide,
        context=context,
        ubatch=ubatch,
        threads=threads,
        kernels=kernels,
        devices=("none",),
    )
    assert 0 < engine.memories["CPU"].used["compute"] <= engine.plan.devices[0].compute_bytes
