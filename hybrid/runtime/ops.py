"""Operations of a loaded model on one device: a weight and the kernel that takes it.

These are what `hybrid.models.parts` names; the loader makes them and wraps those that live away
from home.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.head_linear import head_linear
from kernels.linear import linear
from kernels.rms_norm import rms_norm
from kernels.router import RouterRules, choose_experts


@dataclass(frozen=True, slots=True)
class EmbeddingOp:
    weight: BlockTensor

    def __call__(self, ids: Tensor) -> Tensor:
        rows = self.weight.blocks[ids.to(self.weight.device)]
        return dequantize(BlockTensor(rows, self.weight.format, self.weight.columns))


@dataclass(frozen=True, slots=True)
class LinearOp:
    """implementation   of `kernels.linear`; None: the device's exact one"""

    weight: BlockTensor
    implementation: str | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, implementation=self.implementation)


@dataclass(frozen=True, slots=True)
class HeadLinearOp:
    """whole   [heads, rows, columns] as the file has it
    rows    those of each head that are meant: the key's or the value's half of attn_kv_b; None: all
    """

    whole: BlockTensor
    rows: slice | None = None

    @property
    def weight(self) -> BlockTensor:
        return self.whole if self.rows is None else self.whole[:, self.rows]

    def __call__(self, x: Tensor, heads: slice, *, transposed: bool = False) -> Tensor:
        return head_linear(x, self.weight[heads], transposed=transposed)


@dataclass(frozen=True, slots=True)
class NormOp:
    weight: BlockTensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.vector(), self.epsilon)

    def vector(self) -> Tensor:
        """[width] float32."""
        return float_vector(self.weight)


@dataclass(frozen=True, slots=True)
class VectorOp:
    """A vector as it stands on its device: what a crossing fetches for an op elsewhere."""

    weight: BlockTensor

    def __call__(self) -> Tensor:
        return float_vector(self.weight)


@dataclass(frozen=True, slots=True)
class RouterOp:
    gate: BlockTensor
    bias: Callable[[], Tensor] | None
    rules: RouterRules

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bias = self.bias() if self.bias else None
        return choose_experts(linear(x, self.gate), bias, self.rules)


def float_vector(weight: BlockTensor) -> Tensor:
    """A norm's weights or a bias as float32; F32 data is viewed, not copied."""
    if weight.format.name == "F32":
        return weight.blocks.view(torch.float32)
    return dequantize(weight)
