"""A decode step's kernels behind the contract of `expert_ffn`: repacked, eight tokens a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.expert_ffn import gpu
from kernels.expert_ffn.cpu import Part
from kernels.planar import to_planar


def expert_ffn(
    x: Tensor, parts: Sequence[Part], chosen: Tensor, share: Tensor, first_expert: int
) -> Tensor:
    """`kernels.expert_ffn.expert_ffn_of_parts` for up to gpu.MOST_USED experts a token."""
    out, numbers = torch.zeros_like(x), chosen.int()
    for gate, up, down in parts:
        planar = [to_planar(weight) for weight in (gate, up, down)]
        for first in range(0, len(x), gpu.MOST_TOKENS):
            rows = slice(first, first + gpu.MOST_TOKENS)
            routing = gpu.Routed(numbers[rows].contiguous(), share[rows].contiguous(), first_expert)
            some, tokens = x[rows].contiguous(), len(x[rows])
            hidden = x.new_empty(tokens, chosen.shape[1], gate.shape[1])
            halves = gpu.Halves(planar[0], planar[1], hidden, planar[2])
            gpu.expert_hidden(some, tokens, routing, halves, None)
            gpu.expert_down(out[rows], tokens, routing, halves, None)
    return out
