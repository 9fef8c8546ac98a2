"""The demo model with real GPUs: the same greedy tokens as on the CPU, memory as planned."""

import gc

import numpy as np
import pytest
import torch

import hybrid
from hybrid.runtime.engine import Engine
from kernels.cuda import host_memory
from placement.machines.machine import CPU

pytestmark = pytest.mark.gpu

PROMPT = "It was a dark and stormy night, and the old man said to his daughter"
PLACEMENTS = {
    "all on one GPU": {"devices": ("CUDA0",), "rules": [".*=CUDA0"]},
    "experts in RAM": {"devices": ("CUDA0",), "rules": ["exps=CPU"]},
    "experts in RAM, mapped": {"devices": ("CUDA0",), "rules": ["exps=CPU"], "mmap": True},
    "an expert range on the GPU": {"devices": ("CUDA0",), "rules": ["exps#0-6=CUDA0,exps=CPU"]},
    "gate and up apart": {"devices": ("CUDA0",), "rules": ["gate_exps=CUDA0,exps=CPU"]},
    "ops away": {
        "devices": ("CUDA0",),
        "rules": ["attn_(q_b|k_b|norm)=CPU,ffn_gate_inp=CPU,exp_probs=CUDA0,shexp=CPU"],
    },
    "two layers offloaded": {"devices": ("CUDA0",), "gpu_layers": 2},
    "cache in RAM": {"devices": ("CUDA0",), "rules": ["exps=CPU"], "cache_in_ram": True},
    "cache in RAM, two layers offloaded": {
        "devices": ("CUDA0",),
        "gpu_layers": 2,
        "cache_in_ram": True,
    },
    "cache in RAM, two GPUs": {
        "devices": ("CUDA0", "CUDA1"),
        "shares": (1, 1),
        "cache_in_ram": True,
    },
    "two GPUs and the CPU": {
        "devices": ("CUDA0", "CUDA1"),
        "shares": (1, 1),
        "rules": ["exps=CPU"],
    },
    "experts on another GPU": {"devices": ("CUDA0", "CUDA1"), "rules": [r"blk\.1.*exps=CUDA1"]},
}


def greedy(**options) -> tuple[list[int], Engine]:
    engine = hybrid.load("demo", context=256, kernels="exact", **options)
    return tokens(engine, 24), engine


def tokens(engine: Engine, count: int) -> list[int]:
    return [token.id for token in engine.generate(PROMPT, max_tokens=count, temperature=0)]


@pytest.fixture(scope="module")
def expected() -> list[int]:
    return greedy(devices=("none",))[0]


@pytest.mark.parametrize("options", PLACEMENTS.values(), ids=PLACEMENTS.keys())
def test_real_gpus_give_the_tokens_of_the_cpu(options, expected):
    missing = [d for d in options["devices"] if int(d[-1]) >= torch.cuda.device_count()]
    if missing:
        pytest.skip(f"{missing[0]} is not here")
    ids, engine = greedy(**options)
    assert ids == expected
    for use in engine.plan.devices:
        memory = engine.memories[use.name]
        if use.name != CPU:
            assert memory.place.torch_device.type == "cuda"
            assert memory.used.get("weights", 0) == use.weights_bytes


@pytest.mark.parametrize("cache_format", ["f32", "bf16", "q8_0"])
def test_cache_formats_work_on_a_gpu(cache_format):
    options = {"context": 64, "cache_format": cache_format, "kernels": "exact"}
    engine = hybrid.load("demo", devices=("CUDA0",), **options)
    on_cpu = hybrid.load("demo", devices=("none",), **options)
    ids = engine.encode(PROMPT)
    assert abs(engine.logits(ids) - on_cpu.logits(ids)).max() < 0.02


@pytest.mark.parametrize("cache_format", ["f16", "bf16", "q8_0"])
def test_a_cache_in_ram_gives_the_tokens_of_the_cpu(cache_format):
    options = {"rules": ["exps=CPU"], "cache_in_ram": True, "cache_format": cache_format}
    on_cpu, _ = greedy(devices=("none",), cache_format=cache_format)
    assert greedy(devices=("CUDA0",), **options)[0] == on_cpu


@pytest.mark.parametrize("cache_format", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("kernels", ["fast", "exact"])
@pytest.mark.parametrize("rules", [["exps=CPU"], [".*=CUDA0"]], ids=["hybrid", "all on the GPU"])
def test_a_cache_in_ram_changes_nothing_but_its_place(cache_format, kernels, rules):
    options = {"devices": ("CUDA0",), "rules": rules, "cache_format": cache_format}
    common = {"context": 512, "kernels": kernels, **options}
    at_home, in_ram = (
        hybrid.load("demo", **common, cache_in_ram=in_ram) for in_ram in (False, True)
    )
    ids = at_home.encode(PROMPT)
    # a prompt, then steps of 1, 2 and 3 tokens
    for engine in (at_home, in_ram):
        engine.fill(ids)
    for few in ([1], [5, 9], [3, 7, 11]):
        np.testing.assert_allclose(in_ram.extend(few), at_home.extend(few), rtol=0, atol=0.02)
    assert tokens(in_ram, 64) == tokens(at_home, 64)
    for use in in_ram.plan.devices:
        assert in_ram.memories[use.name].used.get("cache", 0) == use.cache_bytes
        assert (use.cache_bytes > 0) == (use.name == CPU)


def test_a_cache_in_ram_takes_nothing_of_the_gpu_and_is_let_go_with_the_engine(monkeypatch):
    # mapped: nothing but the cache is pinned
    options = {"devices": ("CUDA0",), "rules": ["exps=CPU"], "context": 1024, "mmap": True}
    released, unregister = [], host_memory.unregister

    def noted(address: int, device: torch.device) -> None:
        released.append(address)
        unregister(address, device)

    monkeypatch.setattr(host_memory, "unregister", noted)

    def gpu_bytes(**more) -> tuple[int, Engine]:
        gc.collect()
        before = torch.cuda.memory_allocated(0)
        engine = hybrid.load("demo", **options, **more)
        return torch.cuda.memory_allocated(0) - before, engine

    gpu_bytes()  # what the first load leaves behind for all others
    at_home, first = gpu_bytes()
    cache = next(use.cache_bytes for use in first.plan.devices if use.name != CPU)
    del first
    in_ram, second = gpu_bytes(cache_in_ram=True)
    assert abs(at_home - in_ram - cache) < 1 << 20
    address = second.memories[CPU].caches["CUDA0"].address
    released.clear()  # the first engine's pages may have had the same address
    del second
    gc.collect()
    assert address in released
