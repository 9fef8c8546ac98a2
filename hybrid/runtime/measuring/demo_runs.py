"""The engine's own time, measured with the demo model, whose weights take next to none.

token_us          a token of the whole program, less its graph's launch and wait: Python, the
                  embedding, the graph's input, the choice
prompt_block_us   a micro-batch of a prompt, a block: launches, which run ahead of the GPU. What a
                  pass has beside its blocks is left out: five are not to bear what sixty do
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

from torch import Tensor

from hybrid.models.parts import LayerCache, Step
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.gpu.replay import Replay
from hybrid.runtime.load import load
from placement.machines.machine import Device

# A larger model's block has more to launch: V2-Lite's took 1.14 times as long as the demo's on one
# machine, blocks alone; 1.11 to 1.32 times on four, whole passes (docs/log.md).
MORE_LAUNCHES = 1.15
MODEL, CONTEXT, UBATCH = "demo", 1024, 512
TOKENS, PROMPTS, WARM = 48, 5, 4
NOT_ONE_GRAPH = "the demo model's blocks are not one graph on this GPU"


def demo_figures(gpu: Device) -> dict[str, float]:
    """Loads all blocks of the demo model onto this GPU; its embedding stays in RAM, as large
    models' do.

    Raises HybridError where that fails, RuntimeError where its blocks have no graph there.
    """
    rules = [rf"blk\..*={gpu.name}"]
    engine = load(MODEL, rules=rules, devices=(gpu.name,), context=CONTEXT, ubatch=UBATCH)
    launches_us = _launches_us(engine)
    token_us = max(_token_us(engine), 1.0)
    return {"token_us": token_us, "prompt_block_us": MORE_LAUNCHES * launches_us}


def _launches_us(engine: Engine) -> float:
    """Of a block in a whole micro-batch from an empty cache: the blocks of a pass together."""
    ids = [token % engine.prepared.config.vocabulary for token in range(UBATCH)]
    blocks = [_Launches(block) for block in _on_gpu(engine)]
    times = []
    for _ in range(1 + PROMPTS):
        engine.forget()
        engine.fill(ids)
        times.append(blocks[-1].ended - blocks[0].began)
    for block in blocks:
        block.leave()
    return 1e6 * median(times[1:]) / len(blocks)


class _Launches:
    """When a block's launches of a prompt began and ended."""

    def __init__(self, block: GpuBlock) -> None:
        assert block.prompt is not None, "made when the weights had been read"
        self.began = self.ended = 0.0
        self._block, self._prompt = block, block.prompt
        block.prompt = self

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        self.began = perf_counter()
        h = self._prompt(h, step, cache)
        self.ended = perf_counter()
        return h

    def leave(self) -> None:
        self._block.prompt = self._prompt


def _token_us(engine: Engine) -> float:
    """Tokens and the graph alone in turn, each difference by itself: a GPU that others use too is
    not as fast now as a moment later.
    """
    graph = _one_token(engine)
    own = []
    for token in range(WARM + TOKENS):
        whole_s = _seconds(partial(engine.fill, [token % engine.prepared.config.vocabulary]))
        own.append(whole_s - _seconds(partial(_run, graph)))
    return 1e6 * median(own[WARM:])


def _one_token(engine: Engine) -> Replay:
    """The step of one token."""
    first = _on_gpu(engine)[0]
    if first.chain is None:
        raise RuntimeError(NOT_ONE_GRAPH)
    return first.chain.one_token


def _on_gpu(engine: Engine) -> list[GpuBlock]:
    blocks = [block for block in engine._model.blocks if isinstance(block, GpuBlock)]
    if len(blocks) < len(engine._model.blocks):
        raise RuntimeError(NOT_ONE_GRAPH)
    return blocks


def _run(graph: Replay) -> None:
    """Launched and waited for: the GPU begins before a launch returns."""
    graph.start()
    graph.wait()


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
