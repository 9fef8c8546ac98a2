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
from hybrid.runtime.measuring.random_blocks import (
    CACHE_ROW_BYTES,
    EPSILON,
    WIDTH,
    RandomBlocks,
    ones,
    planes,
    random_blocks,
)
from kernels.linear.gpu import Product, matvec
from kernels.planar import PlanarTensor
from kernels.step import ArgmaxScratch, Greatest, argmax, argmax_scratch
from tools.bench.gpu_time import DEVICE, Span, captured, copy_gb_s, need_gpu
from tools.bench.table import Cell, show

LAYERS, VOCABULARY = 27, 102_400
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
    """Blocks, the head, and what a step writes."""

    body: RandomBlocks
    head: PlanarTensor
    norm: Tensor
    logits: Tensor
    found: Greatest
    scratch: ArgmaxScratch

    def launch(self, kinds: Collection[str]) -> None:
        if "begin" in kinds:
            self.body.begin()
        with ExitStack() as left_out:
            for kind, name in NAMES.items():
                if kind not in kinds:
                    left_out.enter_context(mock.patch.object(step, name))
            left_out.enter_context(mock.patch.object(step, "matvec", _products_of(kinds)))
            self.body.launch()
        if "head" in kinds:
            hidden = self.body.buffers.input.hidden
            matvec(hidden, [Product(self.head, self.logits)], 1, self.norm, EPSILON)
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
        nbytes = model.body.step_bytes + model.head.nbytes + LAYERS * depth * CACHE_ROW_BYTES
        floor_us = nbytes / copied / 1e3
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
    model.body.at_depth(depth)
    model.launch(kinds)  # loads kernels
    graph = captured(lambda: model.launch(kinds))
    times = []
    for _ in range(REPLAYS):
        with Span() as span:
            graph.replay()
        times.append(span.us())
    return median(times)


def random_model() -> Model:
    return Model(
        body=random_blocks(DEVICE, dense=1, sparse=LAYERS - 1, rows=DEPTHS[-1] + 1),
        head=planes(DEVICE, "Q8_0", VOCABULARY, WIDTH),
        norm=ones(DEVICE, WIDTH),
        logits=torch.zeros(1, VOCABULARY, device=DEVICE),
        found=Greatest(
            torch.zeros(1, dtype=torch.int32, device=DEVICE), torch.zeros(1, device=DEVICE)
        ),
        scratch=argmax_scratch(1, VOCABULARY, DEVICE),
    )


def _products_of(kinds: Collection[str]) -> Callable[..., None]:
    """matvec for those of its two kinds that are wanted: the output adds to h."""

    def products(x: Tensor, wanted: Sequence[Product], *others: object) -> None:
        if ("attention output" if wanted[0].add else "queries and latent") in kinds:
            matvec(x, wanted, *others)  # type: ignore[arg-type]

    return products


if __name__ == "__main__":
    main()
