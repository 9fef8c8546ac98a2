"""The demo model with real GPUs: the same greedy tokens as on the CPU, memory as planned."""

import pytest
import torch

import hybrid
from hybrid.runtime.engine import Engine
from placement.machine import CPU

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
    "two GPUs and the CPU": {"devices": ("CUDA0", "CUDA1"), "rules": ["exps=CPU"]},
    "experts on another GPU": {"devices": ("CUDA0", "CUDA1"), "rules": [r"blk\.1.*exps=CUDA1"]},
}


def greedy(**options) -> tuple[list[int], Engine]:
    engine = hybrid.load("demo", context=256, kernels="exact", **options)
    tokens = engine.generate(PROMPT, max_tokens=24, temperature=0)
    return [token.id for token in tokens], engine


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
