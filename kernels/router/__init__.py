"""Contract: which experts a token goes to, and with what share."""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor


class Gating(str, Enum):
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class GroupScore(str, Enum):
    """How a group of experts is scored: the best entry (DeepSeek-V2) or the sum of the two best (V3, llama.cpp)."""

    MAX = "max"
    TOP2_SUM = "top2_sum"


@dataclass(frozen=True, slots=True)
class RouterRules:
    """Everything of the routing that does not depend on a token.

    groups, groups_used   1, 1 means no groups; groups are runs of experts/groups consecutive experts
    normalise             divide the chosen probabilities by their sum (at least 2^-14)
    scale                 multiply the shares, after normalising; 1 leaves them
    """

    experts: int
    used: int
    gating: Gating
    groups: int = 1
    groups_used: int = 1
    group_score: GroupScore = GroupScore.TOP2_SUM
    normalise: bool = False
    scale: float = 1.0


def choose_experts(
    logits: Tensor, bias: Tensor | None, rules: RouterRules
) -> tuple[Tensor, Tensor]:
    """probability = gating(logits); chosen = best `used` of probability + bias within the best groups;
    share = probability of the chosen, unbiased, normalised and scaled as `rules` say.

    logits   [tokens, experts] float32
    bias     [experts] float32 or None: takes part in the choice only
    returns  chosen [tokens, used] int64, share [tokens, used] float32

    Raises KernelInputError when shapes or dtypes do not fit.
    Source: DeepSeek-V2 report section 2.2, DeepSeek-V3 report section 2.1.2; deepseek2 of llama.cpp.
    """
    raise AssertionError("written by the model's author")
