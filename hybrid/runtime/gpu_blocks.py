"""Blocks that lie wholly on one GPU, but for routed experts in RAM.

    up to 8 tokens   a chain of such blocks is one captured graph (`gpu_chain.py`): the first block
                     replays it, the others find their work done
    more             each block on its own, by tensor cores (`gpu_prompt.py`)

A block with an operation elsewhere stays as the model built it, as `native_block.py` does on the
CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import Block, LayerCache, Linear, Norm, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.crossing import CrossedOp, Place
from hybrid.runtime.gpu_chain import GpuChain, StepMemory
from hybrid.runtime.gpu_prompt import PromptPass, Turn
from hybrid.runtime.gpu_step import MOST_TOKENS, GpuEnding
from hybrid.runtime.gpu_weights import ExpertPlaces, expert_places, planar_weights
from hybrid.runtime.plain_block import NotPlain, PlainBlock, matrix, norm, read_block
from hybrid.runtime.stats import Meter


@dataclass(slots=True)
class _Registered:
    plain: PlainBlock
    places: ExpertPlaces
    home: Place
    block: "GpuBlock"


class GpuBlock:
    """A block at home on a GPU, h [T, D] float32 -> [T, D]; h comes from any device."""

    def __init__(self, home: Place, meter: Meter) -> None:
        self.chain: GpuChain | None = None  # of the blocks that start here
        self.prompt: PromptPass | None = None
        self._home = home
        self._meter = meter

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        with self._meter.on(self._home.name):
            if step.tokens <= MOST_TOKENS:
                return h if self.chain is None else self.chain(h, step)
            assert self.prompt is not None, "made when the weights had been read"
            if h.device != self._home.torch_device:
                self._meter.crossing_bytes += h.nbytes
                h = h.to(self._home.torch_device)
            return self.prompt(h, step, cache)


class GpuBlocks:
    """The GPU blocks of one engine, by layer; made ready once the weights have been read."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._blocks: dict[int, _Registered] = {}
        self._ending: tuple[Place, GpuEnding] | None = None

    def registered(self, layer: int, block: Block, home: Place) -> GpuBlock | None:
        """The same block for its GPU; None when some of it is not plainly there."""
        try:
            plain = read_block(block)
            places = expert_places(plain.experts)
        except NotPlain:
            return None
        made = GpuBlock(home, self._meter)
        self._blocks[layer] = _Registered(plain, places, home, made)
        return made

    def ending(self, layers: int, output_norm: Norm, head: Linear, home: Place) -> GpuEnding | None:
        """Output norm and head for the GPU of the last block; None when they are elsewhere."""
        if layers - 1 not in self._blocks:
            return None
        try:
            made = GpuEnding(norm(output_norm), matrix(head))
        except NotPlain:
            return None
        self._ending = (home, made)
        return made

    def chains(self) -> list[range]:
        """Layers that follow one another on one GPU."""
        found: list[range] = []
        for layer, entry in sorted(self._blocks.items()):
            follows = found and found[-1].stop == layer
            if follows and self._blocks[layer - 1].home == entry.home:
                found[-1] = range(found[-1].start, layer + 1)
            else:
                found.append(range(layer, layer + 1))
        return found
