import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.router import (
    IMPLEMENTATIONS,
    Gating,
    GroupScore,
    RouterRules,
    cases,
    choose_experts,
)

every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def routed(z: np.ndarray, bias: np.ndarray, rules: RouterRules) -> dict[int, float]:
    """One token's experts and shares in float64, by the letter of the reports."""
    if rules.gating is Gating.SIGMOID:
        probability = 1 / (1 + np.exp(-z))
    else:
        probability = np.exp(z) / np.exp(z).sum()
    score = probability + bias
    groups = np.split(np.arange(rules.experts), rules.groups)
    worths = []
    for members in groups:
        falling = sorted(score[members], reverse=True)
        worths.append(falling[0] if rules.group_score is GroupScore.MAX else sum(falling[:2]))
    kept = sorted(range(rules.groups), key=lambda g: -worths[g])[: rules.groups_used]
    open_to = [e for g in kept for e in groups[g]]
    chosen = sorted(open_to, key=lambda e: -score[e])[: rules.used]
    total = sum(probability[e] for e in chosen) if rules.normalise else 1.0
    return {int(e): rules.scale * probability[e] / total for e in chosen}


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("rules", cases.SMALL.values(), ids=cases.SMALL)
@every_implementation
def test_router_agrees_with_float64(
    rules: RouterRules, with_bias: bool, implementation: str
) -> None:
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(cases.TOKENS, rules.experts, generator=random) * 2
    bias = torch.randn(rules.experts, generator=random) * 0.3 if with_bias else None
    chosen, share = choose_experts(logits, bias, rules, implementation=implementation)
    assert chosen.dtype == torch.int64
    assert share.dtype == torch.float32
    added = bias.double().numpy() if bias is not None else np.zeros(rules.experts)
    for token in range(cases.TOKENS):
        expected = routed(logits[token].double().numpy(), added, rules)
        assert chosen[token].tolist() == list(expected)
        assert share[token].tolist() == pytest.approx(
            list(expected.values()), rel=cases.RELATIVE_ERROR
        )


def test_group_scores_lead_to_different_groups() -> None:
    logits = torch.tensor([[3.0, -3.0, 1.0, 1.0]])
    rules = {
        score: RouterRules(4, 1, Gating.SOFTMAX, groups=2, groups_used=1, group_score=score)
        for score in GroupScore
    }
    probability = [0.5, 0.0, 0.3, 0.3]
    assert choose_experts(logits, None, rules[GroupScore.MAX])[0].tolist() == [[0]]
    bias = torch.tensor(probability) - logits.softmax(-1)[0]
    assert choose_experts(logits, bias, rules[GroupScore.TOP2_SUM])[0].tolist() == [[2]]


def test_bias_moves_the_choice_and_not_the_share() -> None:
    logits, rules = torch.zeros(1, 4), RouterRules(4, 1, Gating.SIGMOID)
    chosen, share = choose_experts(logits, torch.tensor([0.0, 0.0, 9.0, 0.0]), rules)
    assert chosen.tolist() == [[2]]
    assert share.tolist() == [[0.5]]


def test_normalising_never_divides_by_less_than_the_least_half() -> None:
    rules = RouterRules(4, 2, Gating.SIGMOID, normalise=True)
    _, share = choose_experts(torch.full((1, 4), -30.0), None, rules)
    expected = 1 / (1 + np.exp(30.0)) * 2**14
    assert share[0].tolist() == pytest.approx([expected] * 2, rel=1e-5)


@every_implementation
def test_equal_scores_go_to_the_lower_number(implementation: str) -> None:
    rules = RouterRules(64, 4, Gating.SOFTMAX)
    chosen, _ = choose_experts(torch.zeros(3, 64), None, rules, implementation=implementation)
    assert chosen.tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("rules", cases.REAL.values(), ids=cases.REAL)
def test_all_implementations_choose_alike_when_scores_tie(rules: RouterRules) -> None:
    logits = torch.randint(-2, 3, (50, rules.experts), generator=torch.Generator().manual_seed(8))
    chosen = [
        choose_experts(logits.float(), None, rules, implementation=name)[0]
        for name in IMPLEMENTATIONS
    ]
    assert all(torch.equal(found, chosen[0]) for found in chosen)


@every_implementation
def test_logits_that_are_no_numbers_still_choose_different_experts(implementation: str) -> None:
    rules, logits = cases.SMALL["sigmoid, groups"], torch.zeros(3, 24)
    logits[0], logits[1, ::2], logits[2, 5:9] = torch.nan, torch.nan, torch.inf
    chosen, _ = choose_experts(logits, None, rules, implementation=implementation)
    assert all(len(set(row)) == rules.used for row in chosen.tolist())
    assert chosen.min() >= 0
    assert chosen.max() < rules.experts


@every_implementation
def test_no_token_is_routed_nowhere(implementation: str) -> None:
    rules = cases.SMALL["sigmoid, groups"]
    chosen, share = choose_experts(torch.zeros(0, 24), None, rules, implementation=implementation)
    assert chosen.shape == share.shape == (0, 8)


@pytest.mark.parametrize(
    "counts",
    [(0, 1, 1, 1), (8, 0, 1, 1), (8, 9, 1, 1), (8, 2, 3, 1), (8, 2, 4, 5), (8, 5, 4, 2)],
)
def test_rules_refuse_counts_that_cannot_be_obeyed(counts: tuple[int, int, int, int]) -> None:
    experts, used, groups, groups_used = counts
    with pytest.raises(KernelInputError):
        RouterRules(experts, used, Gating.SOFTMAX, groups=groups, groups_used=groups_used)


@pytest.mark.parametrize(
    ("logits", "bias"),
    [
        (torch.zeros(2, 6), None),
        (torch.zeros(7), None),
        (torch.zeros(2, 7).double(), None),
        (torch.zeros(2, 7), torch.zeros(6)),
        (torch.zeros(2, 7), torch.zeros(7).double()),
        (torch.zeros(2, 7), torch.zeros(7, device="meta")),
    ],
)
def test_router_refuses_what_does_not_fit(logits: Tensor, bias: Tensor | None) -> None:
    with pytest.raises(KernelInputError):
        choose_experts(logits, bias, cases.SMALL["softmax"])
