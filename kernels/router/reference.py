"""The meaning of `choose_experts` in plain torch."""

import math

import torch
from torch import Tensor

from kernels.router.rules import Gating, GroupScore, RouterRules

LEAST_SUM = 2.0**-14  # least normal float16, below which llama.cpp does not divide


def choose_experts(
    logits: Tensor, bias: Tensor | None, rules: RouterRules
) -> tuple[Tensor, Tensor]:
    """See `kernels.router.choose_experts`."""
    sigmoid = rules.gating is Gating.SIGMOID
    probability = logits.sigmoid() if sigmoid else logits.softmax(dim=-1)
    score = probability if bias is None else probability + bias
    if rules.groups > 1:
        score = within_best_groups(score, rules)
    chosen = best(score, rules.used)
    share = probability.gather(-1, chosen)
    if rules.normalise:
        share = share / share.sum(-1, keepdim=True).clamp_min(LEAST_SUM)
    return chosen, share * rules.scale


def within_best_groups(score: Tensor, rules: RouterRules) -> Tensor:
    """score [tokens, experts] with -inf outside the best groups."""
    grouped = score.view(len(score), rules.groups, rules.experts // rules.groups)
    entries = 1 if rules.group_score is GroupScore.MAX else min(2, grouped.shape[-1])
    worth = grouped.topk(entries, dim=-1).values.sum(-1)  # [tokens, groups]
    dropped = torch.ones_like(worth, dtype=torch.bool)
    dropped.scatter_(-1, best(worth, rules.groups_used), False)
    return grouped.masked_fill(dropped[..., None], -math.inf).flatten(-2)


def best(score: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of the last dimension, best first, ties to the lower index."""
    return score.sort(dim=-1, descending=True, stable=True).indices[..., :count]
