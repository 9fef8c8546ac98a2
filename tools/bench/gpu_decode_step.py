"""A whole decode step of V2-Lite's shape on this GPU: `python -m tools.bench.gpu_decode_step`.

Weights are random bits, of IQ4_NL for the routed experts and Q8_0 elsewhere, all on the GPU; the
cache is f16. One token's launches, from its embedding to the likeliest successor, are captured
once and the graph is replayed at several depths of context. No sampling, nothing on the host.

us, tok/s   of the median of REPLAYS replays
floor us    bytes read once over what a copy reads and writes per second, cache rows included
--parts     how many us a launch of each kind saves when it is left out, and how many it takes when
            nothing else is in the graph: what overlaps shows in neither
"""

import argparse
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from unittest import mock

import torch
from torch import Tensor

from hybrid.runtime.gpu import step
from hybrid.runtime.gpu.step import BlockStep, Lengths, StepBuffers, step_buffers
from hybrid.runtime.gpu.weights import GpuWeights, HeadMatrices, ResidentWeights, RouterWeights
from kernels.formats import BY_NAME
from kernels.latent_block import CacheMemory, LatentShape
from kernels.linear.gpu import Product, matvec
from kernels.planar import PlanarTensor
from kernels.rope import frequencies
from kernels.router import Gating, RouterRules
from kernels.step import (
    ArgmaxScratch,
    Greatest,
    StepInput,
    argmax,
    argmax_scratch,
    begin_step,
    step_input,
)
from tools.bench.gpu_time import DEVICE, Span, captured, copy_gb_s, need_gpu
from tools.bench.table import Cell, show

WIDTH, HEADS, NOPE, ROPE, VALUE, LATENT = 2048, 16, 128, 64, 128, 512
EXPERT_ROWS, SHARED_ROWS, DENSE_ROWS, EXPERTS, USED = 1408, 2816, 10944, 64, 6
LAYERS, VOCABULARY, EPSILON = 27, 102_400, 1e-6
DEPTHS = (0, 4096, 16_384)
REPLAYS = 31
KINDS = {  # launches of a kind in a step
    "begin": 1,
    "queries and latent": LAYERS,
    "prepare": LAYERS,
    "split": LAYERS,
    "unfold": LAYERS,
    "attention output": LAYERS,
    "router": LAYERS - 1,
    "gate and up": LAYERS,
    "down": LAYERS,
    "head": 1,
    "argmax": 1,
}
NAMES = {  # of a step's launches; matvec is two kinds
    "prepare": "prepare",
    "split": "absorbed_split",
    "unfold": "unfold",
    "router": "route",
    "gate and up": "expert_hidden",
    "down": "expert_down",
}


@dataclass(frozen=True, slots=True)
class Model:
    """Blocks with a cache each, the head, and what a step writes."""

    source: StepInput
    buffers: StepBuffers
    blocks: list[BlockStep]
    head: PlanarTensor
    norm: Tensor
    logits: Tensor
    found: Greatest
    scratch: ArgmaxScratch

    def launch(self, kinds: Collection[str]) -> None:
        target = self.buffers.input
        if "begin" in kinds:
            begin_step(self.source, target)
        with ExitStack() as left_out:
            for kind, name in NAMES.items():
                if kind not in kinds:
                    left_out.enter_context(mock.patch.object(step, name))
            left_out.enter_context(mock.patch.object(step, "matvec", _products_of(kinds)))
            for block in self.blocks:
                block.launch(self.buffers)
        if "head" in kinds:
            matvec(target.hidden, [Product(self.head, self.logits)], 1, self.norm, EPSILON)
        if "argmax" in kinds:
            argmax(self.logits, self.found, self.scratch)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", action="store_true", help="time each kind of launch too")
    arguments = parser.parse_args(words)
    need_gpu("a decode step")
    copied, model = copy_gb_s(), random_model()
    rows: list[list[Cell]] = []
    for depth in DEPTHS:
        us = microseconds(model, KINDS, depth)
        floor_us = (_weight_bytes(model) + LAYERS * depth * 2 * (LATENT + ROPE)) / copied / 1e3
        rows.append([depth, us, 1e6 / us, floor_us])
    show("gpu_decode_step", ("depth", "us", "tok/s", "floor us"), rows)
    if arguments.parts:
        show("gpu_decode_step_parts", ("launch", "left out us", "alone us"), part_rows(model))


def part_rows(model: Model) -> list[list[Cell]]:
    depth = DEPTHS[1]
    whole = microseconds(model, KINDS, depth)
    rows: list[list[Cell]] = []
    for kind, count in KINDS.items():
        without = microseconds(model, KINDS.keys() - {kind}, depth)
        alone = microseconds(model, {kind}, depth)
        rows.append([kind, (whole - without) / count, alone / count])
    return rows


def microseconds(model: Model, kinds: Collection[str], depth: int) -> float:
    """The median of single replays, each waited for, as a decoder waits for its token."""
    model.source.rows.fill_(depth)
    model.source.positions.fill_(depth)
    model.source.seen.fill_(depth + 1)
    model.launch(kinds)  # loads kernels
    graph = captured(lambda: model.launch(kinds))
    times = []
    for _ in range(REPLAYS):
        with Span() as span:
            graph.replay()
        times.append(span.us())
    return median(times)


def random_model() -> Model:
    shape = LatentShape(
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
    source = step_input(1, WIDTH, torch.device("cpu"), pinned=True)
    source.hidden.normal_()
    weights = [_weights(shape, layer) for layer in range(LAYERS)]
    lengths = Lengths(EXPERTS, USED, EXPERT_ROWS, DENSE_ROWS)
    target = step_input(1, WIDTH, DEVICE)
    frequency = frequencies(ROPE, 10_000.0).to(DEVICE)
    return Model(
        source=source,
        buffers=step_buffers(target, shape, lengths, weights[0].value_up),
        blocks=[BlockStep(one, _cache(), frequency, 1.0, None) for one in weights],
        head=planes("Q8_0", VOCABULARY, WIDTH),
        norm=_ones(WIDTH),
        logits=torch.zeros(1, VOCABULARY, device=DEVICE),
        found=Greatest(
            torch.zeros(1, dtype=torch.int32, device=DEVICE), torch.zeros(1, device=DEVICE)
        ),
        scratch=argmax_scratch(1, VOCABULARY, DEVICE),
    )


def planes(name: str, *shape: int) -> PlanarTensor:
    """Random bits with small scales, so that activations stay finite through all layers."""
    known, rows = BY_NAME[name], torch.Size(shape[:-1]).numel()
    if name == "F32":
        data = (torch.randn(rows * shape[-1], device=DEVICE) * 0.02).view(torch.uint8)
        return PlanarTensor(data, known, shape, rows)
    nbytes, blocks = rows * known.row_bytes(shape[-1]), rows * shape[-1] // known.block_weights
    data = torch.randint(0, 256, (nbytes,), dtype=torch.uint8, device=DEVICE)
    scale = torch.full((blocks,), 2e-3 if name == "Q8_0" else 3e-4, device=DEVICE).half()
    data[-2 * blocks :] = scale.view(torch.uint8)  # the last plane
    return PlanarTensor(data, known, shape, rows)


def _weights(shape: LatentShape, layer: int) -> GpuWeights:
    dense, rows = layer == 0, DENSE_ROWS if layer == 0 else SHARED_ROWS
    routed = (planes("IQ4_NL", EXPERTS, EXPERT_ROWS, WIDTH) for _ in range(2))
    rules = RouterRules(EXPERTS, USED, Gating.SOFTMAX)
    return GpuWeights(
        shape=shape,
        attention_norm=_ones(WIDTH),
        query_norm=None,
        latent_norm=_ones(LATENT),
        feed_forward_norm=_ones(WIDTH),
        query_down=None,
        query=planes("Q8_0", HEADS * (NOPE + ROPE), WIDTH),
        compress=planes("Q8_0", LATENT + ROPE, WIDTH),
        key=HeadMatrices(planes("Q8_0", HEADS, LATENT, NOPE), 0, LATENT),
        key_transposed=True,
        value_up=HeadMatrices(planes("Q8_0", HEADS, VALUE, LATENT), 0, VALUE),
        output=planes("Q8_0", WIDTH, HEADS * VALUE),
        dense=(
            planes("Q8_0", rows, WIDTH),
            planes("Q8_0", rows, WIDTH),
            planes("Q8_0", WIDTH, rows),
        ),
        router=None if dense else RouterWeights(planes("F32", EXPERTS, WIDTH), None, rules),
        resident=None
        if dense
        else ResidentWeights(*routed, planes("IQ4_NL", EXPERTS, WIDTH, EXPERT_ROWS), 0),
    )


def _cache() -> CacheMemory:
    rows = torch.randn(DEPTHS[-1] + 1, LATENT + ROPE, device=DEVICE).half()
    return CacheMemory(rows.view(torch.uint8), BY_NAME["F16"])


def _ones(length: int) -> Tensor:
    return torch.ones(length, device=DEVICE)


def _products_of(kinds: Collection[str]) -> Callable[..., None]:
    """matvec for those of its two kinds that are wanted: the output adds to h."""

    def products(x: Tensor, wanted: Sequence[Product], *others: object) -> None:
        if ("attention output" if wanted[0].add else "queries and latent") in kinds:
            matvec(x, wanted, *others)  # type: ignore[arg-type]

    return products


def _weight_bytes(model: Model) -> int:
    """Of one step: of the routed experts those that a token uses."""
    nbytes = model.head.nbytes
    for block in model.blocks:
        w = block.weights
        whole = (w.query, w.compress, w.key.whole, w.value_up.whole, w.output, *(w.dense or ()))
        nbytes += sum(weight.nbytes for weight in whole)
        if w.resident is not None:
            routed = (w.resident.gate, w.resident.up, w.resident.down)
            nbytes += sum(weight.nbytes for weight in routed) * USED // EXPERTS
    return nbytes


if __name__ == "__main__":
    main()
