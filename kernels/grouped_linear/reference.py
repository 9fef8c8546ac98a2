"""The meaning of the grouped products in plain torch, expert after expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from kernels.grouped_linear import Pairs


def grouped_hidden(
    x: Tensor, gate: Tensor, up: Tensor, pairs: Pairs, begin: int, out: Tensor
) -> None:
    """See `kernels.grouped_linear.grouped_hidden`."""
    offsets = pairs.offsets.tolist()
    for i in range(len(gate)):
        rows = slice(offsets[begin + i], offsets[begin + i + 1])
        x_e = x[pairs.order[rows].long() // pairs.used].float()
        hidden = torch.nn.functional.silu(x_e @ gate[i].float().T) * (x_e @ up[i].float().T)
        out[rows] = hidden.to(out.dtype)


def grouped_down(hidden: Tensor, down: Tensor, pairs: Pairs, begin: int, out: Tensor) -> None:
    """See `kernels.grouped_linear.grouped_down`."""
    offsets = pairs.offsets.tolist()
    for i in range(len(down)):
        rows = slice(offsets[begin + i], offsets[begin + i + 1])
        y = hidden[rows].float() @ down[i].float().T
        out[pairs.order[rows].long()] = y.to(out.dtype)


def add_pairs(
    h: Tensor, y: Tensor, chosen: Tensor, share: Tensor, first_expert: int, experts: int
) -> None:
    """See `kernels.grouped_linear.add_pairs`."""
    tokens, used = chosen.shape
    here = (chosen >= first_expert) & (chosen < first_expert + experts)
    for slot in range(used):
        rows = here[:, slot].nonzero().flatten()
        y_slot = y.view(tokens, used, y.shape[-1])[rows, slot].float()
        h[rows] += share[rows, slot, None] * y_slot
