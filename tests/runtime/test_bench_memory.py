"""Between two engines: what the first one held is gone."""

import gc
import weakref

import torch

import hybrid
from hybrid.runtime.audit import process_bytes
from hybrid.runtime.bench_memory import free_engines

MIB = 1 << 20


def loaded() -> "hybrid.Engine":
    engine = hybrid.load(
        "demo", simulate={"CUDA0": 64 * MIB}, rules=["exps=CPU"], context=1024, threads=1
    )
    engine.fill([1, 2, 3])
    return engine


def arenas(engine: "hybrid.Engine") -> list["weakref.ref[object]"]:
    """Of the memory that lies behind the tensors of RAM and of the simulated GPU."""
    found = [weakref.ref(memory.arena._memory) for memory in engine.memories.values()]
    assert len(found) == 2
    return found


def test_weights_and_caches_of_an_engine_in_rings_are_freed():
    engine = loaded()
    behind = arenas(engine)
    engine.itself = engine
    gc.disable()
    try:
        del engine
        assert all(memory() is not None for memory in behind)
        free_engines()
        assert all(memory() is None for memory in behind)
    finally:
        gc.enable()


def test_the_process_does_not_grow_from_engine_to_engine():
    sizes = []
    for _ in range(4):
        engine = loaded()
        held = sum(sum(memory.used.values()) for memory in engine.memories.values())
        del engine
        free_engines()
        sizes.append(process_bytes())
    assert sizes[-1] - sizes[0] < held / 4


def test_a_gpu_that_was_used_gives_back_what_torch_keeps(monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    free_engines()
    assert given_back == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    free_engines()
    assert given_back == [True]
