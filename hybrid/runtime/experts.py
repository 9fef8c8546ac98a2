"""The routed experts of a layer, as the plan placed them. `hybrid.models` calls them all alike.

    CpuExperts        all of a range in RAM
    ShardedExperts    the same, a part of every matrix on each NUMA node
    GpuExperts        all of a range on one GPU
    ScatteredExperts  gate, up and down of a range on different devices (a rule said so)
    SplitExperts      several ranges, each one of the above; their results are summed

A range that is not at the layer's home is wrapped in a crossing by the loader; none of these knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import Experts
from hybrid.runtime.crossing import Crossing
from kernels.blocks import BlockTensor
from kernels.expert_ffn import add_weighted, expert_ffn, expert_ffn_of_parts, expert_rows, gated
from kernels.linear import linear


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """Matrices of the experts first .. first+count-1 of a layer.

    gate, up   [count, feed_forward, width] blocks
    down       [count, width, feed_forward] blocks
    """

    gate: BlockTensor
    up: BlockTensor
    down: BlockTensor
    first: int

    @property
    def count(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True, slots=True)
class _ResidentExperts:
    """implementation   of `kernels.expert_ffn`; None: the device's exact one"""

    weights: ExpertWeights
    implementation: str | None = None

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        w = self.weights
        return expert_ffn(
            x, w.gate, w.up, w.down, chosen, share, w.first, implementation=self.implementation
        )


class CpuExperts(_ResidentExperts):
    """Experts in the host arena, computed by the CPU from the original blocks."""


class GpuExperts(_ResidentExperts):
    """Experts in a GPU's memory."""


@dataclass(frozen=True, slots=True)
class ShardedExperts:
    """Experts in RAM whose feed-forward length is cut over NUMA nodes (`node_layout.py`): node n
    has rows of gate and up and the same columns of down, and the nodes' outputs are summed.

    parts   each node's matrices, all of the same experts; part n is for the workers of node n
    """

    parts: tuple[ExpertWeights, ...]
    implementation: str | None = None

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        return expert_ffn_of_parts(
            x,
            [(w.gate, w.up, w.down) for w in self.parts],
            chosen,
            share,
            self.parts[0].first,
            implementation=self.implementation,
        )


@dataclass(frozen=True, slots=True)
class ScatteredExperts:
    """Experts whose matrices are on different devices: activations visit each, expert by expert.

    crossings   from home to the device of gate, up and down; None where that is home
    """

    weights: ExpertWeights
    crossings: tuple[Crossing | None, Crossing | None, Crossing | None]

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        w = self.weights
        out = torch.zeros_like(x)
        for rows in expert_rows(chosen, w.first, w.count):
            x_e = x[rows.tokens]
            gate = self._apply(0, w.gate[rows.expert], x_e)
            up = self._apply(1, w.up[rows.expert], x_e)
            down = self._apply(2, w.down[rows.expert], gated(gate, up))
            add_weighted(out, down, share, rows)
        return out

    def _apply(self, stage: int, weight: BlockTensor, x: Tensor) -> Tensor:
        crossing = self.crossings[stage]
        if crossing is None:
            return linear(x, weight)
        result: Tensor = crossing.call(linear, x, weight=weight)
        return result


@dataclass(frozen=True, slots=True)
class SplitExperts:
    """Ranges of experts in different places; every range adds its share of the sum."""

    ranges: Sequence[Experts]

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        total = self.ranges[0](x, chosen, share)
        for experts in self.ranges[1:]:
            total = total + experts(x, chosen, share)
        return total


def expert_parts(op: object) -> tuple[ExpertWeights, ...]:
    """The matrices of experts in RAM, one entry a NUMA node; none of anything else."""
    if isinstance(op, CpuExperts):
        return (op.weights,)
    return op.parts if isinstance(op, ShardedExperts) else ()
