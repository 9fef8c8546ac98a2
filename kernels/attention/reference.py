"""The meaning of both attention forms in plain torch: scores, causal mask, softmax, values.

t query tokens, s seen rows, h heads; the other letters of an einsum are summed or copied lengths.
"""

import math

import torch
from torch import Tensor


def absorbed_attention(
    q_latent: Tensor, q_rope: Tensor, rows: Tensor, scale: float, start: int
) -> Tensor:
    """See `kernels.attention.absorbed_attention`."""
    latent, k_rope = torch.split(rows, [q_latent.shape[-1], q_rope.shape[-1]], dim=-1)
    score = torch.einsum("thl,sl->hts", q_latent, latent)
    score += torch.einsum("thr,sr->hts", q_rope, k_rope)
    return torch.einsum("hts,sl->thl", weights(score, scale, start), latent)


def expanded_attention(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor, scale: float, start: int
) -> Tensor:
    """See `kernels.attention.expanded_attention`."""
    q_nope, q_rope = torch.split(q, [k_nope.shape[-1], k_rope.shape[-1]], dim=-1)
    score = torch.einsum("thn,shn->hts", q_nope, k_nope)
    score += torch.einsum("thr,sr->hts", q_rope, k_rope)
    return torch.einsum("hts,shv->thv", weights(score, scale, start), v)


def weights(score: Tensor, scale: float, start: int) -> Tensor:
    """Causal softmax of scale · score [heads, tokens, start + tokens]; overwrites score."""
    _, tokens, seen = score.shape
    query = torch.arange(start, start + tokens, device=score.device)
    future = torch.arange(seen, device=score.device) > query[:, None]  # [tokens, seen]
    return score.mul_(scale).masked_fill_(future, -math.inf).softmax(dim=-1)
