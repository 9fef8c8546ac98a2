"""The meaning of the expert feed-forward's stages in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ExpertRows:
    """The tokens one expert works on.

    expert   its number among the experts held
    tokens   [rows] int64, rising
    slots    [rows] int64: tokens[i] chose this expert as its slots[i]-th
    """

    expert: int
    tokens: Tensor
    slots: Tensor


def expert_rows(chosen: Tensor, first_expert: int, experts: int) -> list[ExpertRows]:
    """See `kernels.expert_ffn.expert_rows`."""
    local = chosen - first_expert
    tokens, slots = ((local >= 0) & (local < experts)).nonzero(as_tuple=True)
    numbers, order = local[tokens, slots].sort(stable=True)
    present, sizes = torch.unique_consecutive(numbers, return_counts=True)
    cuts = sizes.tolist()
    return [
        ExpertRows(*record)
        for record in zip(
            present.tolist(),
            torch.split(tokens[order], cuts),
            torch.split(slots[order], cuts),
            strict=True,
        )
    ]


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """See `kernels.expert_ffn.gated`."""
    return torch.nn.functional.silu(gate) * up


def add_weighted(out: Tensor, y: Tensor, share: Tensor, rows: ExpertRows) -> None:
    """See `kernels.expert_ffn.add_weighted`."""
    out.index_add_(0, rows.tokens, y * share[rows.tokens, rows.slots, None])
