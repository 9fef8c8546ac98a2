"""The engine's own time, measured with the demo model, whose weights take next to none.

token_us          a token of the whole program, less its graph on the GPU: Python, the
                  embedding, the graph's input and launch, the choice
prompt_block_us   a micro-batch of a prompt, a block: launches, which run ahead of the GPU
"""

from statistics import median
from time import perf_counter

import torch

from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.load import load
from hybrid.runtime.measuring.gpu_time import queued_us
from hybrid.runtime.memory import cuda_device
from placement.machines.machine import Device

MODEL, CONTEXT, UBATCH = "demo", 1024, 512
TOKENS, PROMPTS, WARM = 48, 5, 4


def demo_figures(gpu: Device) -> dict[str, float]:
    """Loads the demo model wholly onto this GPU.

    Raises HybridError where that fails, RuntimeError where its blocks have no graph there.
    """
    rules = [f".*={gpu.name}"]
    engine = load(MODEL, rules=rules, devices=(gpu.name,), context=CONTEXT, ubatch=UBATCH)
    layers = len(engine.plan.layers)
    prompt_us = _prompt_us(engine)
    token_us = max(_token_us(engine) - _graph_us(engine, cuda_device(gpu)), 1.0)
    return {"token_us": token_us, "prompt_block_us": prompt_us / layers}


def _prompt_us(engine: Engine) -> float:
    """Of a whole micro-batch from an empty cache."""
    ids = [token % engine.prepared.config.vocabulary for token in range(UBATCH)]
    times = []
    for _ in range(1 + PROMPTS):
        engine.forget()
        began = perf_counter()
        engine.fill(ids)
        times.append(perf_counter() - began)
    return 1e6 * median(times[1:])


def _token_us(engine: Engine) -> float:
    times = []
    for token in range(WARM + TOKENS):
        began = perf_counter()
        engine.fill([token % engine.prepared.config.vocabulary])
        times.append(perf_counter() - began)
    return 1e6 * median(times[WARM:])


def _graph_us(engine: Engine, place: torch.device) -> float:
    """Of the step of one token, replayed alone."""
    first = engine._model.blocks[0]
    if not isinstance(first, GpuBlock) or first.chain is None:
        raise RuntimeError("the demo model's blocks are not one graph on this GPU")
    return queued_us(first.chain.one_token.start, place)
