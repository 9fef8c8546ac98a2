import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.attention import absorbed_attention, cases, expanded_attention
from kernels.attention.cases import Case
from kernels.errors import KernelInputError

SCALE = 0.37
ON_CPU = ("native", "reference")  # test_attention_gpu.py has Triton's


def random(*shape: int, seed: int = 6) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + len(shape)))


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, start: int) -> np.ndarray:
    """One head, one query at a time: q [t, d], k [s, d], v [s, e] -> [t, e]."""
    out = []
    for i, query in enumerate(q):
        score = SCALE * k[: start + i + 1] @ query
        weight = np.exp(score - score.max())
        out.append(weight / weight.sum() @ v[: start + i + 1])
    return np.array(out)


def assert_close(found: Tensor, exact: np.ndarray) -> None:
    off = np.linalg.norm(found.double().numpy() - exact)
    assert found.shape == exact.shape
    assert off <= cases.RELATIVE_ERROR * np.linalg.norm(exact)


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
@pytest.mark.parametrize("implementation", ON_CPU)
def test_absorbed_attention_agrees_with_float64(case: Case, implementation: str) -> None:
    q_latent = random(case.tokens, case.heads, case.latent)
    q_rope = random(case.tokens, case.heads, case.rope, seed=7)
    rows = random(case.start + case.tokens, case.latent + case.rope)
    found = absorbed_attention(
        q_latent, q_rope, rows, SCALE, case.start, implementation=implementation
    )
    q, k = torch.cat((q_latent, q_rope), -1).double().numpy(), rows.double().numpy()
    heads = [attended(q[:, h], k, k[:, : case.latent], case.start) for h in range(case.heads)]
    assert_close(found, np.stack(heads, 1))


@pytest.mark.parametrize("case", cases.SMALL, ids=str)
@pytest.mark.parametrize("implementation", ON_CPU)
def test_expanded_attention_agrees_with_float64(case: Case, implementation: str) -> None:
    seen = case.start + case.tokens
    q = random(case.tokens, case.heads, case.nope + case.rope)
    k_nope, k_rope = random(seen, case.heads, case.nope), random(seen, case.rope)
    v = random(seen, case.heads, case.value, seed=8)
    found = expanded_attention(
        q, k_nope, k_rope, v, SCALE, case.start, implementation=implementation
    )
    shared = k_rope.double().numpy()
    heads = [
        attended(
            q[:, h].double().numpy(),
            np.concatenate((k_nope[:, h].double().numpy(), shared), -1),
            v[:, h].double().numpy(),
            case.start,
        )
        for h in range(case.heads)
    ]
    assert_close(found, np.stack(heads, 1))


@pytest.mark.parametrize("implementation", ON_CPU)
def test_huge_scores_do_not_overflow(implementation: str) -> None:
    rows, q = random(3, 30) * 1e4, random(1, 2, 24) * 1e4
    found = absorbed_attention(q, random(1, 2, 6), rows, 1.0, 2, implementation=implementation)
    assert found.isfinite().all()


def test_strided_queries_keys_and_values_are_read_as_their_copies() -> None:
    q, k, v = random(3, 4, 20)[:, ::2, 4:], random(8, 2, 40)[:, :, :10], random(2, 8, 9)
    k_rope, v = random(8, 12)[:, ::2], v.transpose(0, 1)
    found = expanded_attention(q, k, k_rope, v, SCALE, 5)
    copies = [each.contiguous() for each in (q, k, k_rope, v)]
    assert torch.equal(found, expanded_attention(*copies, SCALE, 5))


@pytest.mark.parametrize("tokens", [0, 2])
@pytest.mark.parametrize("heads", [0, 3])
def test_nothing_attends_to_something(tokens: int, heads: int) -> None:
    rows = random(4 + tokens, 12)
    q = random(tokens, heads, 12)
    assert absorbed_attention(q[..., :8], q[..., 8:], rows, SCALE, 4).shape == (tokens, heads, 8)
    k, v = random(4 + tokens, heads, 8), random(4 + tokens, heads, 5)
    assert expanded_attention(q, k, rows[:, :4], v, SCALE, 4).shape == (tokens, heads, 5)


def test_later_rows_do_not_reach_earlier_queries() -> None:
    q_latent, q_rope, rows = random(4, 2, 24), random(4, 2, 6), random(6, 30)
    before = absorbed_attention(q_latent, q_rope, rows, SCALE, 2)
    rows[5] = 1e6
    after = absorbed_attention(q_latent, q_rope, rows, SCALE, 2)
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3], after[3])


@pytest.mark.parametrize(
    ("q_latent", "q_rope", "rows", "start"),
    [
        (random(2, 3, 8), random(2, 3, 4), random(5, 12), 4),
        (random(2, 3, 8), random(2, 2, 4), random(6, 12), 4),
        (random(2, 3, 8), random(2, 3, 4), random(6, 13), 4),
        (random(2, 3, 8), random(2, 3, 4), random(1, 12), -1),
        (random(2, 24), random(2, 3, 4), random(6, 12), 4),
        (random(2, 3, 8).double(), random(2, 3, 4), random(6, 12), 4),
        (random(2, 3, 8), random(2, 3, 4), random(6, 12).half(), 4),
        (random(2, 3, 8), random(2, 3, 4).to("meta"), random(6, 12), 4),
    ],
)
def test_absorbed_attention_refuses_what_does_not_fit(
    q_latent: Tensor, q_rope: Tensor, rows: Tensor, start: int
) -> None:
    with pytest.raises(KernelInputError):
        absorbed_attention(q_latent, q_rope, rows, SCALE, start)


@pytest.mark.parametrize(
    ("q", "k_nope", "k_rope", "v"),
    [
        (random(2, 3, 11), random(6, 3, 8), random(6, 4), random(6, 3, 5)),
        (random(2, 3, 12), random(5, 3, 8), random(6, 4), random(6, 3, 5)),
        (random(2, 3, 12), random(6, 3, 8), random(5, 4), random(6, 3, 5)),
        (random(2, 3, 12), random(6, 3, 8), random(6, 4), random(6, 2, 5)),
        (random(2, 3, 12), random(6, 3, 8), random(6, 4), random(6, 3, 5).double()),
    ],
)
def test_expanded_attention_refuses_what_does_not_fit(
    q: Tensor, k_nope: Tensor, k_rope: Tensor, v: Tensor
) -> None:
    with pytest.raises(KernelInputError):
        expanded_attention(q, k_nope, k_rope, v, SCALE, 4)
