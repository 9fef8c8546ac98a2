"""One block of a made model file as a prompt pass on CPU tensors, beside the block of the model.

Test modules call `run` in their own process for the reference ops and in the interpreting process
for Triton's.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hybrid.gguf.reader import GgufFile
from hybrid.models.config import ModelConfig
from hybrid.models.deepseek import DeepseekBlock, build
from hybrid.models.latent import rope_frequencies
from hybrid.models.moe import router_rules
from hybrid.models.parts import Step
from hybrid.runtime.cache import make_cache
from hybrid.runtime.experts import CpuExperts, ExpertWeights
from hybrid.runtime.gpu.expert_stream import ExpertSource, ExpertStream
from hybrid.runtime.gpu.prompt import PromptPass, Turn
from hybrid.runtime.gpu.weights import (
    GpuWeights,
    HeadMatrices,
    ResidentWeights,
    RouterWeights,
)
from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.latent_block import LatentShape
from kernels.planar import PlanarTensor, to_planar
from placement.memory.gpu_scratch import decoded_values
from placement.workload import Workload, cache_bytes
from tests.models.plain_parts import PlainCache, PlainFile, PlainParts

Planes = tuple[PlanarTensor, PlanarTensor, PlanarTensor]


@dataclass(frozen=True)
class Pass:
    """How a block runs.

    steps            tokens of each pass over it
    resident         experts of the layer in the GPU's memory: [first, end); the others in RAM
    nodes            NUMA nodes over which those in RAM are cut
    streamed         those in RAM come to the GPU, in buffers of `staged_bytes`
    decoded          values decoded at once, 0: as the placement plans
    """

    path: Path
    layer: int
    steps: tuple[int, ...] = (21, 13)
    dtype: torch.dtype = torch.float32
    implementation: str | None = None
    resident: tuple[int, int] = (0, 8)
    nodes: int = 1
    streamed: bool = False
    staged_bytes: int = 1 << 16
    decoded: int = 0
    work_bytes: int = 1 << 20
    cache_format: str = "f32"
    device: str = "cpu"


@dataclass(frozen=True)
class Ran:
    """out [tokens, width] and the layer's cache rows; of the model's own block and of the pass.

    calls_away   passes whose experts were computed in RAM
    """

    expected: Tensor
    expected_rows: Tensor
    out: Tensor
    rows: Tensor
    calls_away: int


@dataclass
class Away:
    """The experts in RAM, counted."""

    experts: CpuExperts
    calls: int = field(default=0)

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        self.calls += 1
        return self.experts(x.cpu(), chosen.cpu(), share.cpu()).to(x.device)


class FileWeights:
    """A file's tensors: blocks in RAM, pinned for a GPU; planes and vectors on the device."""

    def __init__(self, path: Path, device: str) -> None:
        self._file = GgufFile.open(path)
        self.device = device

    def blocks(self, name: str, *shape: int) -> BlockTensor:
        tensor = self._file.tensors[name]
        shape = shape or tensor.shape
        data = torch.frombuffer(bytearray(self._file.data(tensor)), dtype=torch.uint8)
        data = data if self.device == "cpu" else data.pin_memory()
        row_bytes = tensor.format.row_bytes(shape[-1])
        return BlockTensor(data.view(*shape[:-1], row_bytes), tensor.format, shape[-1])

    def planes(self, name: str, *shape: int) -> PlanarTensor:
        return self.laid_out(self.blocks(name, *shape))

    def laid_out(self, weight: BlockTensor) -> PlanarTensor:
        blocks = weight.blocks.to(self.device)
        return to_planar(BlockTensor(blocks, weight.format, weight.columns))

    def vector(self, name: str) -> Tensor:
        return dequantize(self.blocks(name)).to(self.device)

    def has(self, name: str) -> bool:
        return name in self._file.tensors


def run(given: Pass) -> Ran:
    config = ModelConfig.from_gguf(PlainFile(given.path))
    model = build(config, PlainParts(PlainFile(given.path)), absorb_up_to=0)
    tokens = sum(given.steps)
    generator = torch.Generator().manual_seed(5)
    h = torch.randn(tokens, config.embedding_length, generator=generator)
    workload = Workload(
        tokens, max(given.steps), given.cache_format, attention_work_bytes=given.work_bytes
    )
    cache = make_cache(
        torch.empty(
            cache_bytes(config.shape(), workload, 1), dtype=torch.uint8, device=given.device
        ),
        config.cache_row_length,
        given.cache_format,
    )
    plain = PlainCache(torch.full((tokens, config.cache_row_length), torch.nan))
    block = model.blocks[given.layer]
    assert isinstance(block, DeepseekBlock)
    passed, away = prompt_pass(given, config)
    expected, out, start = [], h.to(given.device, copy=True), 0
    for count in given.steps:
        step = Step(start, count)
        expected.append(block(h[start : start + count], step, plain))
        passed(out[start : start + count], step, cache)
        start += count
    calls = 0 if away is None else away.calls
    rows = cache.read(tokens).cpu()
    return Ran(torch.cat(expected), plain.rows, out.cpu(), rows, calls)


def prompt_pass(given: Pass, config: ModelConfig) -> tuple[PromptPass, Away | None]:
    file = FileWeights(given.path, given.device)
    routed = given.layer >= config.dense_layers
    parts = in_ram(file, given, config) if routed else ()
    values = given.decoded or decoded_values(config.shape())
    away = Away(CpuExperts(parts[0])) if parts and given.nodes == 1 else None
    source: ExpertSource | None = None
    if parts and given.streamed:
        memory = torch.empty(3 * given.staged_bytes, dtype=torch.uint8, device=given.device)
        source = ExpertStream({given.layer: parts}, memory, values).source(given.layer)
    turn = Turn(rope_frequencies(config).to(given.device), config.rope.amplitude)
    decoded = torch.empty(values, dtype=given.dtype, device=given.device)
    made = PromptPass(
        weights(file, given, config),
        turn,
        decoded,
        given.work_bytes,
        away,
        source,
        given.implementation,
    )
    return made, away


def in_ram(file: FileWeights, given: Pass, config: ModelConfig) -> tuple[ExpertWeights, ...]:
    """Those after the resident ones (before them when these are the last), a part for each node."""
    first, end = given.resident
    some = slice(0, first) if end == config.experts.count else slice(end, config.experts.count)
    if some.start == some.stop:
        return ()
    gate, up, down = experts(file, given.layer)
    cut = gate.shape[1] // given.nodes
    found = []
    for node in range(given.nodes):
        rows = slice(node * cut, (node + 1) * cut)
        row_bytes = down.format.row_bytes(cut)
        columns = down.blocks[some, :, node * row_bytes : (node + 1) * row_bytes].contiguous()
        found.append(
            ExpertWeights(
                gate[some, rows], up[some, rows], BlockTensor(columns, down.format, cut), some.start
            )
        )
    return tuple(found)


def experts(file: FileWeights, layer: int) -> tuple[BlockTensor, BlockTensor, BlockTensor]:
    block = f"blk.{layer}.ffn_"
    down = file.blocks(f"{block}down_exps.weight")
    if file.has(f"{block}gate_up_exps.weight"):
        both = file.blocks(f"{block}gate_up_exps.weight")
        return both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :], down
    return (
        file.blocks(f"{block}gate_exps.weight"),
        file.blocks(f"{block}up_exps.weight"),
        down,
    )


def weights(file: FileWeights, given: Pass, config: ModelConfig) -> GpuWeights:
    block = f"blk.{given.layer}."
    low_rank = bool(config.query_latent)
    routed = given.layer >= config.dense_layers
    key, value, transposed = heads(file, block, config)
    return GpuWeights(
        shape=latent_shape(config),
        attention_norm=file.vector(f"{block}attn_norm.weight"),
        query_norm=file.vector(f"{block}attn_q_a_norm.weight") if low_rank else None,
        latent_norm=file.vector(f"{block}attn_kv_a_norm.weight"),
        feed_forward_norm=file.vector(f"{block}ffn_norm.weight"),
        query_down=file.planes(f"{block}attn_q_a.weight") if low_rank else None,
        query=file.planes(f"{block}attn_q_b.weight" if low_rank else f"{block}attn_q.weight"),
        compress=file.planes(f"{block}attn_kv_a_mqa.weight"),
        key=key,
        key_transposed=transposed,
        value_up=value,
        output=file.planes(f"{block}attn_output.weight"),
        dense=dense(file, block, "_shexp" if routed else ""),
        router=router(file, block, config) if routed else None,
        resident=resident(file, given) if routed and given.resident != (0, 0) else None,
    )


def latent_shape(config: ModelConfig) -> LatentShape:
    return LatentShape(
        width=config.embedding_length,
        heads=config.heads,
        nope=config.nope,
        rope=config.rope.length,
        value=config.value,
        latent=config.latent,
        query_latent=config.query_latent,
        absorb_up_to=0,
        expand_up_to=0,
        epsilon=config.norm_epsilon,
        score_scale=config.rope.attention_scale,
    )


def heads(
    file: FileWeights, block: str, config: ModelConfig
) -> tuple[HeadMatrices, HeadMatrices, bool]:
    """Key and value, and whether the key's matrices stand transposed."""
    joined = f"{block}attn_kv_b.weight"
    if file.has(joined):
        rows = config.nope + config.value
        both = file.planes(joined, config.heads, rows, config.latent)
        return (
            HeadMatrices(both, 0, config.nope),
            HeadMatrices(both, config.nope, config.value),
            False,
        )
    key, value = (file.planes(f"{block}attn_{name}_b.weight") for name in ("k", "v"))
    return HeadMatrices(key, 0, config.latent), HeadMatrices(value, 0, config.value), True


def dense(file: FileWeights, block: str, suffix: str) -> Planes | None:
    if not file.has(f"{block}ffn_gate{suffix}.weight"):
        return None
    gate, up, down = (
        file.planes(f"{block}ffn_{name}{suffix}.weight") for name in ("gate", "up", "down")
    )
    return gate, up, down


def router(file: FileWeights, block: str, config: ModelConfig) -> RouterWeights:
    name = f"{block}exp_probs_b.bias"
    bias = file.vector(name) if file.has(name) else None
    return RouterWeights(file.planes(f"{block}ffn_gate_inp.weight"), bias, router_rules(config))


def resident(file: FileWeights, given: Pass) -> ResidentWeights:
    some = slice(*given.resident)
    gate, up, down = (file.laid_out(each[some]) for each in experts(file, given.layer))
    return ResidentWeights(gate, up, down, some.start)
