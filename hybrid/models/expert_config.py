"""The mixture of experts as a file and the conventions settle it. No torch."""

from dataclasses import dataclass

from hybrid.errors import UnsupportedModel
from hybrid.models.keys import Keys

GATINGS = {1: "softmax", 2: "sigmoid"}
# GLM-4.7-Flash leaves the gating key out and is told by its size.
NAMELESS_SIGMOID_BLOCKS = (47, 48)
NAMELESS_SIGMOID_VOCABULARY = 154880


@dataclass(frozen=True, slots=True)
class ExpertConfig:
    """Routed and shared experts; count 0 when every layer is dense.

    count, used           experts there are, experts a token uses
    feed_forward_length   hidden values of one expert
    shared                experts every token uses, held as one of shared · feed_forward_length; 0
                          means none
    gating, group_score   values of `kernels.router.Gating` and `GroupScore`
    groups, groups_used   1, 1 means no groups
    normalise, scale      as in `kernels.router.RouterRules`
    """

    count: int = 0
    used: int = 0
    feed_forward_length: int = 0
    shared: int = 0
    gating: str = "softmax"
    groups: int = 1
    groups_used: int = 1
    group_score: str = "top2_sum"
    normalise: bool = False
    scale: float = 1.0


def read_experts(keys: Keys, blocks: int, vocabulary: int, trained: bool) -> ExpertConfig:
    """For a file with at least one layer of experts. Raises UnsupportedModel for counts that
    cannot be obeyed.
    """
    count, used = keys.count("expert_count"), keys.count("expert_used_count")
    if used > count:
        raise keys.fault("expert_used_count", f"is {used} of {count} experts")
    gating = _gating(keys, blocks, vocabulary)
    groups, groups_used = _groups(keys, count, used)
    best_only = trained and gating == "softmax"
    return ExpertConfig(
        count=count,
        used=used,
        feed_forward_length=keys.count("expert_feed_forward_length"),
        shared=keys.count("expert_shared_count", least=0),
        gating=gating,
        groups=groups,
        groups_used=groups_used,
        group_score="max" if best_only else "top2_sum",
        normalise=keys.flag("expert_weights_norm", False),
        scale=keys.number("expert_weights_scale", 0.0) or 1.0,
    )


def _gating(keys: Keys, blocks: int, vocabulary: int) -> str:
    number = keys.count("expert_gating_func", 0, least=0)
    if number == 0:
        small_glm = blocks in NAMELESS_SIGMOID_BLOCKS and vocabulary == NAMELESS_SIGMOID_VOCABULARY
        return "sigmoid" if small_glm else "softmax"
    if number not in GATINGS:
        raise _unknown_gating(keys, number)
    return GATINGS[number]


def _unknown_gating(keys: Keys, number: int) -> UnsupportedModel:
    known = ", ".join(f"{known} {name}" for known, name in GATINGS.items())
    return keys.fault("expert_gating_func", f"is {number}", f"known for this architecture: {known}")


def _groups(keys: Keys, count: int, used: int) -> tuple[int, int]:
    """Groups of experts and how many a token may use; 1, 1 for none."""
    groups = keys.count("expert_group_count", 0, least=0)
    if groups <= 1:
        return 1, 1
    if groups >= count or count % groups:
        raise keys.fault("expert_group_count", f"is {groups}: {count} experts are not cut so")
    groups_used = keys.count("expert_group_used_count")
    if groups_used > groups or count // groups * groups_used < used:
        raise keys.fault(
            "expert_group_used_count",
            f"is {groups_used} of {groups} groups",
            f"a token uses {used} of {count} experts, {count // groups} in a group",
        )
    return groups, groups_used
