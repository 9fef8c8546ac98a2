"""Shapes and allowed error of the grouped products, one truth for test and bench."""

from dataclasses import dataclass

import torch
from torch import Tensor

# The result and, in between, silu(gate x) * up x are rounded to the dtype.
RELATIVE_ERROR = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True, slots=True)
class Case:
    """`tokens` tokens of `used` experts each among `experts`, of which `count` from `first` on are
    held here; their weights come `at_once` experts at a time.
    """

    tokens: int
    experts: int
    used: int
    width: int
    feed_forward: int
    first: int = 0
    count: int | None = None
    at_once: int | None = None

    @property
    def held(self) -> int:
        return self.experts - self.first if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class Inputs:
    """h float32; x, gate, up, down of the case's dtype; chosen int64 and share float32."""

    h: Tensor
    x: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    chosen: Tensor
    share: Tensor


SMALL = [
    Case(tokens=1, experts=3, used=2, width=32, feed_forward=16),
    Case(tokens=13, experts=6, used=3, width=33, feed_forward=17),
    Case(tokens=40, experts=6, used=3, width=64, feed_forward=32, first=2, count=3),
    Case(tokens=37, experts=5, used=2, width=48, feed_forward=40, at_once=2),
    Case(tokens=2, experts=64, used=1, width=16, feed_forward=16, first=60, count=4),
    Case(tokens=0, experts=4, used=2, width=16, feed_forward=16),
]
REAL = [
    Case(tokens=512, experts=64, used=6, width=2048, feed_forward=1408),
    Case(tokens=4096, experts=64, used=6, width=2048, feed_forward=1408),
    Case(tokens=4096, experts=256, used=8, width=7168, feed_forward=2048, count=16),
]


def make(case: Case, dtype: torch.dtype, device: str = "cpu") -> Inputs:
    generator = torch.Generator(device).manual_seed(case.tokens + case.width)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def weights(rows: int, columns: int) -> Tensor:
        scale: float = columns**-0.5
        return (values(case.held, rows, columns) * scale).to(dtype)

    scores = torch.rand(case.tokens, case.experts, generator=generator, device=device)
    return Inputs(
        values(case.tokens, case.width),
        values(case.tokens, case.width).to(dtype),
        weights(case.feed_forward, case.width),
        weights(case.feed_forward, case.width),
        weights(case.width, case.feed_forward),
        scores.topk(case.used).indices,
        torch.rand(case.tokens, case.used, generator=generator, device=device),
    )
