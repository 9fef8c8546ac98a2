"""Routed experts over the tokens of a prompt on a GPU: decoded some at a time, one grid for all.

chosen ─► pairs of token and slot, sorted by expert
some experts: planes ─► decoded ─► hidden of their pairs ─► y of their pairs
h[t] += Σ share · y
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hybrid.runtime.gpu.expert_stream import ExpertGroup, ExpertSource
from hybrid.runtime.gpu.weights import ResidentWeights
from kernels.dequantize.gpu import decode_into
from kernels.grouped_linear import (
    Pairs,
    add_pairs,
    grouped_down,
    grouped_hidden,
    pairs_by_expert,
)
from kernels.planar import PlanarTensor

ALIGNED_VALUES = 64  # of what is decoded behind something else


@dataclass(frozen=True, slots=True)
class Routing:
    """chosen [T, K] int64, share [T, K] float32: as `choose_experts` gives them."""

    chosen: Tensor
    share: Tensor


@dataclass(frozen=True, slots=True)
class ExpertPass:
    """decoded         [values] of the products' dtype: room for gate and up of an expert or more
    implementation   of `kernels.grouped_linear`
    """

    decoded: Tensor
    implementation: str | None = None

    def add(self, h: Tensor, x: Tensor, routing: Routing, source: ExpertSource) -> None:
        """h [T, D] float32 += the experts' weighted sum of x [T, D]."""
        pairs = pairs_by_expert(routing.chosen, source.first, source.count)
        y = torch.empty(len(pairs.order), h.shape[1], dtype=x.dtype, device=x.device)
        for groups in source.parts:
            self._part(x, pairs, groups(), y)
            add_pairs(
                *(h, y, routing.chosen, routing.share, source.first, source.count),
                implementation=self.implementation,
            )

    def _part(self, x: Tensor, pairs: Pairs, groups: Iterator[ExpertGroup], y: Tensor) -> None:
        hidden = y.new_empty(0)
        for group in groups:
            length = group.gate.shape[1]
            if not len(hidden):
                hidden = y.new_empty(len(y), length)
            gate = self._decoded(group.gate, 0, group.fresh)
            up = self._decoded(group.up, _aligned(gate.numel()), group.fresh)
            place, how = (pairs, group.begin), self.implementation
            grouped_hidden(x, gate, up, *place, hidden, implementation=how)
            down = self._decoded(group.down, 0, group.fresh)
            grouped_down(hidden, down, *place, y, implementation=how)

    def _decoded(self, weight: PlanarTensor, begin: int, fresh: bool) -> Tensor:
        values = weight.rows * weight.columns
        out = self.decoded[begin : begin + values].view(weight.shape)
        decode_into(weight, out, fresh=fresh)
        return out


def _aligned(values: int) -> int:
    return -(-values // ALIGNED_VALUES) * ALIGNED_VALUES


def resident_source(weights: ResidentWeights, most_values: int) -> ExpertSource:
    """Experts in the GPU's memory, so many at a time that gate and up are at most `most_values`."""
    groups = partial(_resident_groups, weights, most_values)
    return ExpertSource(weights.first, weights.gate.shape[0], (groups,))


def _resident_groups(weights: ResidentWeights, most_values: int) -> Iterator[ExpertGroup]:
    count, rows, columns = weights.gate.shape
    at_once = max(1, most_values // (2 * rows * columns))
    for begin in range(0, count, at_once):
        some = slice(begin, begin + at_once)
        yield ExpertGroup(weights.gate[some], weights.up[some], weights.down[some], begin)
