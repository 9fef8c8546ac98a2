"""Random blocks of DeepSeek's shapes for `gpu_prompt`, their experts on the GPU or in RAM."""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from hybrid.runtime.experts import ExpertWeights
from hybrid.runtime.gpu.weights import (
    GpuWeights,
    HeadMatrices,
    ResidentWeights,
    RouterWeights,
)
from kernels.blocks import BlockTensor
from kernels.dequantize.cases import like_weights
from kernels.formats import BY_NAME
from kernels.latent_block import LatentShape
from kernels.planar import PlanarTensor, to_planar
from kernels.router import Gating, GroupScore, RouterRules
from placement.inventory import ModelShape
from tools import model_shapes
from tools.model_shapes import LITE

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Shape:
    """query_latent 0: plain queries; routed, rest: formats of experts and of everything else."""

    model: ModelShape
    query_latent: int
    rules: RouterRules
    routed: str
    rest: str

    def flop(self, layers: int, tokens: int, ubatch: int) -> float:
        """Two for each weight that a token meets, cached rows unfolded and attended to."""
        m = self.model
        width, heads = m.embedding_length, m.head_count
        queries = heads * m.key_length * (self.query_latent or width) + self.query_latent * width
        met = queries + m.cache_row_length * width + heads * m.value_length * width
        dense = 3 * width * m.feed_forward_length
        expert = 3 * width * m.expert_feed_forward_length
        routed = m.expert_used_count * expert + 3 * width * m.shared_feed_forward_length
        routed_layers = max(layers - m.dense_layers, 0)
        weights = layers * met + routed_layers * routed + (layers - routed_layers) * dense
        unfolded = heads * (m.key_length - m.rope_length + m.value_length) * m.latent_length
        passes = [min(ubatch, tokens - start) for start in range(0, tokens, ubatch)]
        rows = sum(index * ubatch + count for index, count in enumerate(passes))
        attended = heads * (m.key_length + m.value_length) * tokens * tokens / 2
        return 2.0 * (tokens * weights + layers * (rows * unfolded + attended))


V3 = replace(model_shapes.V3, layers=6)
TINY = replace(
    LITE,
    layers=2,
    embedding_length=64,
    feed_forward_length=96,
    head_count=2,
    key_length=48,
    value_length=32,
    latent_length=64,
    rope_length=16,
    expert_count=8,
    expert_used_count=3,
    expert_feed_forward_length=32,
    shared_feed_forward_length=32,
)
V3_RULES = RouterRules(256, 8, Gating.SIGMOID, 8, 4, GroupScore.TOP2_SUM, normalise=True, scale=2.5)
SHAPES = {
    "V2-Lite": Shape(LITE, 0, RouterRules(64, 6, Gating.SOFTMAX), "IQ4_NL", "Q8_0"),
    "V3": Shape(V3, 1536, V3_RULES, "Q4_K", "Q4_K"),
    "tiny": Shape(TINY, 0, RouterRules(8, 3, Gating.SOFTMAX), "Q4_0", "Q8_0"),
}


class Blocks:
    """Makes blocks whose weights are copies of a few random matrices, so that it takes seconds."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._known: dict[tuple[str, tuple[int, ...]], PlanarTensor] = {}

    def layer(self, *, routed: bool, resident: bool) -> GpuWeights:
        m, low = self._shape.model, self._shape.query_latent
        width, heads, latent = m.embedding_length, m.head_count, m.latent_length
        nope = m.key_length - m.rope_length
        length = m.shared_feed_forward_length if routed else m.feed_forward_length
        return GpuWeights(
            shape=self._latent_shape(nope),
            attention_norm=_ones(width),
            query_norm=_ones(low) if low else None,
            latent_norm=_ones(latent),
            feed_forward_norm=_ones(width),
            query_down=self._planes(low, width) if low else None,
            query=self._planes(heads * m.key_length, low or width),
            compress=self._planes(m.cache_row_length, width),
            key=HeadMatrices(self._planes(heads, latent, nope, name="Q8_0"), 0, latent),
            key_transposed=True,
            value_up=HeadMatrices(self._planes(heads, m.value_length, latent), 0, m.value_length),
            output=self._planes(width, heads * m.value_length),
            dense=(
                self._planes(length, width),
                self._planes(length, width),
                self._planes(width, length),
            ),
            router=self._router() if routed else None,
            resident=self._experts() if routed and resident else None,
        )

    def in_ram(self) -> ExpertWeights:
        """All experts of a layer, pinned where there is a GPU."""
        m = self._shape.model
        length, width = m.expert_feed_forward_length, m.embedding_length
        parts = []
        for rows, columns in ((length, width), (length, width), (width, length)):
            one = like_weights(BY_NAME[self._shape.routed], (rows, columns))
            shape = (m.expert_count, *one.blocks.shape)
            blocks = torch.empty(shape, dtype=torch.uint8, pin_memory=DEVICE.type == "cuda")
            blocks[:] = one.blocks
            parts.append(BlockTensor(blocks, one.format, columns))
        gate, up, down = parts
        return ExpertWeights(gate, up, down, 0)

    def _latent_shape(self, nope: int) -> LatentShape:
        m = self._shape.model
        return LatentShape(
            width=m.embedding_length,
            heads=m.head_count,
            nope=nope,
            rope=m.rope_length,
            value=m.value_length,
            latent=m.latent_length,
            query_latent=self._shape.query_latent,
            absorb_up_to=0,
            expand_up_to=0,
            epsilon=1e-6,
            score_scale=m.key_length**-0.5,
        )

    def _router(self) -> RouterWeights:
        rules, m = self._shape.rules, self._shape.model
        bias = torch.randn(rules.experts, device=DEVICE) if rules.groups > 1 else None
        return RouterWeights(
            self._planes(rules.experts, m.embedding_length, name="F32"), bias, rules
        )

    def _experts(self) -> ResidentWeights:
        m, name = self._shape.model, self._shape.routed
        count, width, length = m.expert_count, m.embedding_length, m.expert_feed_forward_length
        return ResidentWeights(
            self._planes(count, length, width, name=name),
            self._planes(count, length, width, name=name),
            self._planes(count, width, length, name=name),
            0,
        )

    def _planes(self, *shape: int, name: str = "") -> PlanarTensor:
        """Of its own memory; a leading dimension repeats one matrix."""
        name = name or self._shape.rest
        if (name, shape) not in self._known:
            one = like_weights(BY_NAME[name], shape[-2:])
            blocks = one.blocks.to(DEVICE).expand(*shape[:-1], -1).contiguous()
            self._known[name, shape] = to_planar(BlockTensor(blocks, one.format, shape[-1]))
        found = self._known[name, shape]
        return PlanarTensor(found.data.clone(), found.format, shape, prod(shape[:-1]))


def _ones(length: int) -> Tensor:
    return torch.ones(length, device=DEVICE)
