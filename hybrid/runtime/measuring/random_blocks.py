"""Blocks of V2-Lite's shape whose weights are random bits, all on one GPU: what a decode step of a
real model asks of its kernels, without a file.

    routed experts IQ4_NL, everything else Q8_0, cache f16; the router's choice is of random scores
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.runtime.gpu.step import BlockStep, Lengths, StepBuffers, step_buffers
from hybrid.runtime.gpu.weights import GpuWeights, HeadMatrices, ResidentWeights, RouterWeights
from kernels.formats import BY_NAME
from kernels.latent_block import CacheMemory, LatentShape
from kernels.planar import PlanarTensor
from kernels.rope import frequencies
from kernels.router import Gating, RouterRules
from kernels.step import StepInput, begin_step, step_input

WIDTH, HEADS, NOPE, ROPE, VALUE, LATENT = 2048, 16, 128, 64, 128, 512
EXPERT_ROWS, SHARED_ROWS, DENSE_ROWS, EXPERTS, USED = 1408, 2816, 10944, 64, 6
EPSILON = 1e-6
CACHE_ROW_BYTES = 2 * (LATENT + ROPE)
SHAPE = LatentShape(
    width=WIDTH,
    heads=HEADS,
    nope=NOPE,
    rope=ROPE,
    value=VALUE,
    latent=LATENT,
    query_latent=0,
    absorb_up_to=170,
    expand_up_to=16_384,
    epsilon=EPSILON,
    score_scale=(NOPE + ROPE) ** -0.5,
)


@dataclass(frozen=True, slots=True)
class RandomBlocks:
    """Blocks with a cache each, and what a step of one token reads and writes.

    source   pinned, where the GPU is a real one
    """

    source: StepInput
    buffers: StepBuffers
    blocks: tuple[BlockStep, ...]

    def at_depth(self, tokens: int) -> None:
        """The next step computes the token after so many."""
        self.source.rows.fill_(tokens)
        self.source.positions.fill_(tokens)
        self.source.seen.fill_(tokens + 1)

    def begin(self) -> None:
        begin_step(self.source, self.buffers.input)

    def launch(self) -> None:
        for block in self.blocks:
            block.launch(self.buffers)

    @property
    def step_bytes(self) -> int:
        """Of weights that one token reads: of the routed experts those that it uses."""
        nbytes = 0
        for block in self.blocks:
            w = block.weights
            whole = (w.query, w.compress, w.key.whole, w.value_up.whole, w.output, *(w.dense or ()))
            nbytes += sum(weight.nbytes for weight in whole)
            if w.resident is not None:
                routed = (w.resident.gate, w.resident.up, w.resident.down)
                nbytes += sum(weight.nbytes for weight in routed) * USED // EXPERTS
        return nbytes


def random_blocks(place: torch.device, *, dense: int, sparse: int, rows: int) -> RandomBlocks:
    """So many blocks without and with routed experts, in this order; 330 MB each of the latter.

    rows   of each block's cache
    """
    source = step_input(1, WIDTH, torch.device("cpu"), pinned=place.type == "cuda")
    source.hidden.normal_()
    target = step_input(1, WIDTH, place)
    weights = [_weights(place, routed=layer >= dense) for layer in range(dense + sparse)]
    lengths = Lengths(EXPERTS, USED, EXPERT_ROWS, DENSE_ROWS)
    frequency = frequencies(ROPE, 10_000.0).to(place)
    return RandomBlocks(
        source=source,
        buffers=step_buffers(target, SHAPE, lengths, weights[0].value_up),
        blocks=tuple(BlockStep(w, _cache(place, rows), frequency, 1.0, None) for w in weights),
    )


def planes(place: torch.device, name: str, *shape: int) -> PlanarTensor:
    """Random bits with small scales, so that activations stay finite through all layers."""
    known, rows = BY_NAME[name], torch.Size(shape[:-1]).numel()
    if name == "F32":
        data = (torch.randn(rows * shape[-1], device=place) * 0.02).view(torch.uint8)
        return PlanarTensor(data, known, shape, rows)
    nbytes, blocks = rows * known.row_bytes(shape[-1]), rows * shape[-1] // known.block_weights
    data = torch.randint(0, 256, (nbytes,), dtype=torch.uint8, device=place)
    scale = torch.full((blocks,), 2e-3 if name == "Q8_0" else 3e-4, device=place).half()
    data[-2 * blocks :] = scale.view(torch.uint8)  # the last plane
    return PlanarTensor(data, known, shape, rows)


def ones(place: torch.device, length: int) -> Tensor:
    return torch.ones(length, device=place)


def _weights(place: torch.device, *, routed: bool) -> GpuWeights:
    rows = SHARED_ROWS if routed else DENSE_ROWS

    def q8(*shape: int) -> PlanarTensor:
        return planes(place, "Q8_0", *shape)

    return GpuWeights(
        shape=SHAPE,
        attention_norm=ones(place, WIDTH),
        query_norm=None,
        latent_norm=ones(place, LATENT),
        feed_forward_norm=ones(place, WIDTH),
        query_down=None,
        query=q8(HEADS * (NOPE + ROPE), WIDTH),
        compress=q8(LATENT + ROPE, WIDTH),
        key=HeadMatrices(q8(HEADS, LATENT, NOPE), 0, LATENT),
        key_transposed=True,
        value_up=HeadMatrices(q8(HEADS, VALUE, LATENT), 0, VALUE),
        output=q8(WIDTH, HEADS * VALUE),
        dense=(q8(rows, WIDTH), q8(rows, WIDTH), q8(WIDTH, rows)),
        router=_router(place) if routed else None,
        resident=_experts(place) if routed else None,
    )


def _router(place: torch.device) -> RouterWeights:
    rules = RouterRules(EXPERTS, USED, Gating.SOFTMAX)
    return RouterWeights(planes(place, "F32", EXPERTS, WIDTH), None, rules)


def _experts(place: torch.device) -> ResidentWeights:
    gate, up = (planes(place, "IQ4_NL", EXPERTS, EXPERT_ROWS, WIDTH) for _ in range(2))
    return ResidentWeights(gate, up, planes(place, "IQ4_NL", EXPERTS, WIDTH, EXPERT_ROWS), 0)


def _cache(place: torch.device, rows: int) -> CacheMemory:
    values = torch.randn(rows, LATENT + ROPE, device=place).half()
    return CacheMemory(values.view(torch.uint8), BY_NAME["F16"])
