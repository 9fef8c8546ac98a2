"""Routings and allowed error of `choose_experts`, one truth for test and bench."""

from kernels.router.rules import Gating, GroupScore, RouterRules

RELATIVE_ERROR = 1e-6
TOKENS = 17
SMALL = {
    "softmax": RouterRules(experts=7, used=3, gating=Gating.SOFTMAX),
    "softmax, best group entry": RouterRules(
        24, 3, Gating.SOFTMAX, groups=8, groups_used=3, group_score=GroupScore.MAX, scale=16.0
    ),
    "softmax, two best group entries": RouterRules(
        24, 3, Gating.SOFTMAX, groups=8, groups_used=3, scale=16.0
    ),
    "sigmoid, one group": RouterRules(16, 8, Gating.SIGMOID, normalise=True, scale=2.827),
    "sigmoid, groups": RouterRules(
        24, 8, Gating.SIGMOID, groups=8, groups_used=4, normalise=True, scale=2.5
    ),
    "every expert": RouterRules(5, 5, Gating.SIGMOID, normalise=True),
}
REAL = {
    "V2-Lite": RouterRules(64, 6, Gating.SOFTMAX),
    "V3": RouterRules(256, 8, Gating.SIGMOID, groups=8, groups_used=4, normalise=True, scale=2.5),
    "Kimi-K2": RouterRules(384, 8, Gating.SIGMOID, normalise=True, scale=2.827),
}
