"""Calls `cpu.cpp`."""

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from kernels.native.library import library
from kernels.router.rules import Gating, GroupScore, RouterRules


def choose_experts(
    logits: Tensor, bias: Tensor | None, rules: RouterRules
) -> tuple[Tensor, Tensor]:
    logits = logits.contiguous()
    bias = None if bias is None else bias.contiguous()
    tokens = len(logits)
    scratch = torch.empty(library().hybrid_router_scratch(rules.experts, rules.groups))
    chosen = torch.empty(tokens, rules.used, dtype=torch.int32)
    share = torch.empty(tokens, rules.used)
    counts, ways = _numbers(rules)
    library().hybrid_choose_experts(
        counts,
        ways,
        rules.scale,
        logits.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        tokens,
        scratch.data_ptr(),
        chosen.data_ptr(),
        share.data_ptr(),
    )
    return chosen.long(), share


@lru_cache
def _numbers(rules: RouterRules) -> tuple[ctypes.Array[ctypes.c_int32], ...]:
    """`counts` and `ways` of floats_border.h."""
    counts = (rules.experts, rules.used, rules.groups, rules.groups_used)
    ways = (
        rules.gating is Gating.SIGMOID,
        rules.group_score is GroupScore.MAX,
        rules.normalise,
    )
    return (ctypes.c_int32 * 4)(*counts), (ctypes.c_int32 * 3)(*ways)
