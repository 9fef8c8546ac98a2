"""What a router obeys, apart from the tokens: plain values."""

from dataclasses import dataclass
from enum import Enum

from kernels.errors import KernelInputError


class Gating(str, Enum):
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class GroupScore(str, Enum):
    """How a group of experts is scored: the best entry (DeepSeek-V2) or the sum of the two best
    (V3, llama.cpp).
    """

    MAX = "max"
    TOP2_SUM = "top2_sum"


@dataclass(frozen=True, slots=True)
class RouterRules:
    """Everything of the routing that does not depend on a token.

    groups, groups_used   1, 1 means no groups; groups are runs of experts/groups consecutive
                          experts
    normalise             divide the chosen probabilities by their sum (at least 2^-14)
    scale                 multiply the shares, after normalising; 1 leaves them

    Raises KernelInputError when the counts cannot be obeyed.
    """

    experts: int
    used: int
    gating: Gating
    groups: int = 1
    groups_used: int = 1
    group_score: GroupScore = GroupScore.TOP2_SUM
    normalise: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.groups_used <= self.groups or self.experts % self.groups:
            raise KernelInputError(
                f"cannot use {self.groups_used} of {self.groups} groups of {self.experts} experts"
            )
        eligible = self.experts // self.groups * self.groups_used
        if not 0 < self.used <= eligible:
            raise KernelInputError(f"cannot use {self.used} experts of {eligible}")
