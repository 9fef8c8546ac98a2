"""Blocks that lie wholly on one GPU, but for routed experts in RAM.

    up to 8 tokens   blocks that follow one another on a GPU are one graph (`chain.py`): the
                     first replays it, the others find their work done
    more             each block on its own, by tensor cores (`prompt.py`)

A block with an operation elsewhere stays as the model built it, as `native_block.py` does on the
CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybrid.models.parts import Block, Embedding, LayerCache, Linear, Norm, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.crossing import Place
from hybrid.runtime.gpu.build import (
    ChainParts,
    Crossings,
    StepMemory,
    build_chain,
    crossings,
    step_memory,
)
from hybrid.runtime.gpu.chain import CpuSide, GpuChain
from hybrid.runtime.gpu.head import GpuHead
from hybrid.runtime.gpu.prompt_build import PromptParts, product_type, prompt_passes
from hybrid.runtime.gpu.step import MOST_TOKENS, Head
from hybrid.runtime.gpu.weights import (
    ExpertPlaces,
    GpuWeights,
    Planes,
    expert_places,
    planar_weights,
    vector,
)
from hybrid.runtime.ledger import OTHER
from hybrid.runtime.ops import NormOp
from hybrid.runtime.plain_block import NotPlain, PlainBlock, matrix, read_block
from hybrid.runtime.stats import Meter
from kernels.dequantize.gpu import prepare_decode
from kernels.planar import PlanarTensor
from placement.inventory import ModelShape
from placement.memory.overheads import SMALL_TENSORS
from placement.workload import Workload

SMALL_PROMPT = 100  # tokens of a prompt whose activations torch's pool calls small

AnyCache = FloatCache | QuantisedCache


class GpuBlock:
    """A block at home on a GPU, h [T, D] float32 -> [T, D]; h comes from any device.

    chain    of the blocks that start here; None inside of one
    prompt   the block for more than MOST_TOKENS tokens
    """

    def __init__(self, home: Place, meter: Meter) -> None:
        self.chain: GpuChain | None = None
        self.prompt: Block | None = None
        self._home = home
        self._meter = meter

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        if step.tokens <= MOST_TOKENS:
            if self.chain is None:
                return h
            with self._meter.on(self._home.name, OTHER):
                return self.chain(h, step)
        assert self.prompt is not None, "made when the weights had been read"
        with self._meter.on(self._home.name, OTHER):
            if h.device != self._home.torch_device:
                self._meter.crossing_bytes += h.nbytes
                h = h.to(self._home.torch_device)
            return self.prompt(h, step, cache)


@dataclass(frozen=True, slots=True)
class _Registered:
    plain: PlainBlock
    places: ExpertPlaces
    weights: GpuWeights
    home: Place
    block: GpuBlock


class GpuBlocks:
    """The GPU blocks of one engine, by layer.

    threads   workers that answer for experts in RAM
    exact     take no block: float32 activations are the reference's business
    planes    matrices to be read into planes, by the address of their memory
    """

    def __init__(self, meter: Meter, threads: int, *, exact: bool) -> None:
        self.planes: dict[int, PlanarTensor] = {}
        self._meter = meter
        self._threads = threads
        self._exact = exact
        self._crossings: dict[int, Crossings | None] = {}
        self._blocks: dict[int, _Registered] = {}
        self._head: GpuHead | None = None
        self._usage: dict[Place, Tensor] = {}

    def usage(self) -> dict[int, list[int]]:
        """How often experts of blocks here were chosen, where somebody counted: of tokens whose
        step had stamps.
        """
        counts = {home: usage.cpu() for home, usage in self._usage.items()}
        return {
            layer: counts[entry.home][layer].tolist()
            for layer, entry in self._blocks.items()
            if entry.weights.router is not None
        }

    def registered(self, layer: int, block: Block, home: Place) -> GpuBlock | None:
        """The same block for its GPU; None when some of it is not plainly there."""
        if self._exact or not has_kernels(home):
            return None
        planes = Planes()
        try:
            plain = read_block(block)
            places = expert_places(plain.experts)
            weights = planar_weights(plain, places.resident, planes)
        except NotPlain:
            return None
        self.planes |= planes.made
        made = GpuBlock(home, self._meter)
        self._blocks[layer] = _Registered(plain, places, weights, home, made)
        return made

    def head(self, norm: Norm, head: Linear, last: int) -> GpuHead | None:
        """Output norm and head for the GPU of the last block; None when they are elsewhere."""
        entry = self._blocks.get(last)
        planes = Planes()
        try:
            if entry is None or not isinstance(norm, NormOp):
                return None
            found = Head(vector(norm), norm.epsilon, planes(matrix(head)))
        except NotPlain:
            return None
        self.planes |= planes.made
        self._head = GpuHead(found, entry.home, self._meter)
        return self._head

    def cpu_bytes(self) -> int:
        """Workspace for answering a step, by whichever GPU; once all blocks are registered."""
        self._crossings = {
            layers.start: crossings(self._parts(layers)) for layers in self._chains()
        }
        needs = [
            found.service.needs(MOST_TOKENS, self._threads)
            for found in self._crossings.values()
            if found is not None
        ]
        return max(needs, default=0)

    def ready(
        self,
        caches: Sequence[AnyCache],
        workspace: Tensor,
        shape: ModelShape,
        workload: Workload,
    ) -> None:
        """Make all that runs, once the weights have been read, and try its steps: they write zeros
        to the caches, as they are filled with.

        workspace   uint8 of `cpu_bytes()`
        """
        for home, layers in self._homes().items():
            sizes = (len(caches), max(shape.expert_count, 1))
            self._usage[home] = torch.zeros(sizes, dtype=torch.int32, device=home.torch_device)
            self._make_prompts(home, layers, shape, workload)
        memories = {
            home: step_memory(home, [self._blocks[layer].weights for layer in layers])
            for home, layers in self._homes().items()
        }
        for chain in self._chains():
            memory = memories[self._blocks[chain.start].home]
            self._make_chain(chain, memory, caches, workspace)
        for usage in self._usage.values():
            usage.zero_()  # steps that were tried chose experts that nobody asked for

    def _make_prompts(
        self, home: Place, layers: Sequence[int], shape: ModelShape, workload: Workload
    ) -> None:
        entries = {layer: self._blocks[layer] for layer in layers}
        usage = self._usage[home]
        parts = {
            layer: PromptParts(entry.plain, entry.weights, entry.places.in_ram, usage[layer])
            for layer, entry in entries.items()
        }
        for layer, prompt in prompt_passes(home, parts, shape, workload, self._meter).items():
            entries[layer].block.prompt = prompt

    @torch.inference_mode()
    def rehearse(
        self, embedding: Embedding, caches: Sequence[AnyCache], workload: Workload
    ) -> None:
        """The widest prompt and short ones through a block of each kind on each GPU, and through
        the head, when all else is made: kernels are compiled, and torch's pools have what prompts
        of any length take. Writes rows that no pass will see.
        """
        widest, context = workload.ubatch_tokens, workload.context_tokens
        for planar in self.planes.values():
            prepare_decode(planar.format, planar.device, product_type(planar.device))
        for tokens in {min(widest, few) for few in (widest, SMALL_PROMPT, MOST_TOKENS + 1)}:
            if tokens <= MOST_TOKENS:
                continue
            step = Step(context - tokens, tokens)
            for home, layers in self._homes().items():
                for layer in {self._kind(layer): layer for layer in reversed(layers)}.values():
                    h = embedding(torch.zeros(tokens, dtype=torch.int64))
                    h = self._blocks[layer].block(h, step, caches[layer])
                if self._head is not None and self._head.home == home:
                    self._head(h, tokens)
                home.wait()
        for home in self._homes():
            _grow_small_pool(home.torch_device)

    def _homes(self) -> dict[Place, list[int]]:
        """Layers by their GPU."""
        found: dict[Place, list[int]] = {}
        for layer, entry in self._blocks.items():
            found.setdefault(entry.home, []).append(layer)
        return found

    def _kind(self, layer: int) -> tuple[bool, bool, bool]:
        weights, places = self._blocks[layer].weights, self._blocks[layer].places
        return weights.router is None, weights.resident is None, places.in_ram is None

    def _make_chain(
        self,
        layers: range,
        memory: Sequence[StepMemory],
        caches: Sequence[AnyCache],
        workspace: Tensor,
    ) -> None:
        memories = [cache.memory() for cache in caches[layers.start : layers.stop]]
        parts = self._parts(layers)
        parts = replace(parts, caches=memories, usage=self._usage[parts.home])
        found = self._crossings[layers.start]
        cpu = None
        if found is not None:
            cpu = CpuSide(found.mailbox, found.service, workspace, self._threads)
        chain = build_chain(parts, memory, cpu, self._meter)
        self._blocks[layers.start].block.chain = chain
        if parts.head is not None and self._head is not None:
            self._head.chain = chain

    def _parts(self, layers: range) -> ChainParts:
        """All but the caches and where choices are counted."""
        entries = [self._blocks[layer] for layer in layers]
        ends = self._head is not None and layers.stop == max(self._blocks) + 1
        return ChainParts(
            home=entries[0].home,
            first=layers.start,
            usage=torch.empty(0),
            plains=[entry.plain for entry in entries],
            weights=[entry.weights for entry in entries],
            in_ram=[entry.places.in_ram for entry in entries],
            caches=(),
            head=self._head.head if self._head is not None and ends else None,
        )

    def _chains(self) -> list[range]:
        """Layers that follow one another on one GPU."""
        found: list[range] = []
        for layer, entry in sorted(self._blocks.items()):
            follows = found and found[-1].stop == layer
            if follows and self._blocks[layer - 1].home == entry.home:
                found[-1] = range(found[-1].start, layer + 1)
            else:
                found.append(range(layer, layer + 1))
        return found


def _grow_small_pool(device: torch.device) -> None:
    """Torch cuts tensors of up to 1 MiB from segments of 2 MiB, apart from larger ones, so a length
    of prompt that was not rehearsed can need another one. Have as many as a block's tensors fill.
    """
    if device.type == "cuda":
        held = [
            torch.empty(1 << 20, dtype=torch.uint8, device=device) for _ in range(SMALL_TENSORS)
        ]
        del held


def has_kernels(home: Place) -> bool:
    """Whether the GPU kernels run there. Tests emulate them on simulated GPUs."""
    return home.torch_device.type == "cuda"
