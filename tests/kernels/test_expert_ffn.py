import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize.cases import like_weights
from kernels.errors import KernelInputError
from kernels.expert_ffn import (
    IMPLEMENTATIONS,
    add_weighted,
    cases,
    expert_ffn,
    expert_rows,
    gated,
)
from kernels.expert_ffn.cases import Case
from kernels.formats import BY_NAME
from kernels.testing import assert_close


def blocks_of(values: np.ndarray, name: str = "F32") -> BlockTensor:
    encoded = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
    as_bytes = np.ascontiguousarray(encoded).view(np.uint8)
    return BlockTensor(torch.from_numpy(as_bytes), BY_NAME[name], values.shape[-1])


def matrices(case: Case, seed: int = 9) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    count = case.experts if case.count is None else case.count
    shapes = [(count, case.feed_forward, case.width)] * 2 + [(count, case.width, case.feed_forward)]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def tokens_of(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(10)
    scores = torch.rand(case.tokens, case.experts, generator=random)
    x = torch.randn(case.tokens, case.width, generator=random)
    share = torch.rand(case.tokens, case.used, generator=random)
    return x, scores.argsort(-1)[:, : case.used], share


def exact(case: Case, weights: list[np.ndarray]) -> np.ndarray:
    x, chosen, share = tokens_of(case)
    gate, up, down = (w.astype(np.float64) for w in weights)
    out = np.zeros((case.tokens, case.width))
    for t in range(case.tokens):
        for slot in range(case.used):
            e = int(chosen[t, slot]) - case.first
            if 0 <= e < len(gate):
                row = x[t].double().numpy()
                g = gate[e] @ row
                out[t] += float(share[t, slot]) * (down[e] @ (g / (1 + np.exp(-g)) * (up[e] @ row)))
    return out


@pytest.mark.parametrize("implementation", ["native", "rounded", "cuda", "reference"])
@pytest.mark.parametrize("case", cases.SMALL, ids=str)
def test_expert_ffn_agrees_with_float64(case: Case, implementation: str) -> None:
    weights = matrices(case)
    blocks = map(blocks_of, weights)
    found = expert_ffn(*reordered(case, *blocks), case.first, implementation=implementation)
    expected = exact(case, weights)
    off = np.linalg.norm(found.double().numpy() - expected)
    assert off <= cases.RELATIVE_ERROR * np.linalg.norm(expected)


def test_quantised_experts_are_decoded_where_they_stand() -> None:
    case = Case(tokens=5, experts=4, used=2, width=64, feed_forward=32)
    weights = [blocks_of(values, "Q8_0") for values in matrices(case)]
    decoded = [
        gguf.quants.dequantize(w.blocks.numpy(), gguf.GGMLQuantizationType.Q8_0) for w in weights
    ]
    found = expert_ffn(*reordered(case, *weights), implementation="reference")
    expected = exact(case, decoded)
    off = np.linalg.norm(found.double().numpy() - expected)
    assert off <= cases.RELATIVE_ERROR * np.linalg.norm(expected)


def test_parts_of_the_experts_add_up_to_all_of_them() -> None:
    case = Case(tokens=9, experts=6, used=3, width=16, feed_forward=8)
    weights = [blocks_of(values) for values in matrices(case)]
    whole = expert_ffn(*reordered(case, *weights), implementation="reference")
    low = expert_ffn(*reordered(case, *[w[:2] for w in weights]), 0, implementation="reference")
    high = expert_ffn(*reordered(case, *[w[2:] for w in weights]), 2, implementation="reference")
    torch.testing.assert_close(low + high, whole)


def test_experts_nobody_chose_are_not_read() -> None:
    case = Case(tokens=4, experts=5, used=1, width=16, feed_forward=8)
    gate, up, down = (blocks_of(values) for values in matrices(case))
    gate.blocks[:4] = 255  # NaN as float32
    x, _, share = tokens_of(case)
    chosen = torch.full((4, 1), 4)
    found = expert_ffn(x, gate, up, down, chosen, share, implementation="reference")
    assert found.isfinite().all()


def test_expert_rows_name_every_slot_once_in_order() -> None:
    chosen = torch.tensor([[5, 2], [2, 7], [3, 5]])
    rows = expert_rows(chosen, first_expert=2, experts=4)
    found = [(r.expert, r.tokens.tolist(), r.slots.tolist()) for r in rows]
    assert found == [(0, [0, 1], [1, 0]), (1, [2], [0]), (3, [0, 2], [0, 1])]
    assert expert_rows(chosen, first_expert=8, experts=4) == []


def reordered(
    case: Case, gate: BlockTensor, up: BlockTensor, down: BlockTensor
) -> tuple[Tensor, BlockTensor, BlockTensor, BlockTensor, Tensor, Tensor]:
    x, chosen, share = tokens_of(case)
    return x, gate, up, down, chosen, share


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.ones(5, 15)},
        {"x": torch.ones(5, 16).double()},
        {"x": torch.ones(4, 16)},
        {"x": torch.ones(5, 16, device="meta")},
        {"up": blocks_of(np.ones((4, 7, 16), np.float32))},
        {"down": blocks_of(np.ones((3, 16, 8), np.float32))},
        {"gate": blocks_of(np.ones((8, 16), np.float32))},
        {"chosen": torch.zeros(5, 2, dtype=torch.int32)},
        {"chosen": torch.zeros(5, 3, dtype=torch.int64)},
        {"share": torch.ones(5, 2).double()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_expert_ffn_refuses_what_does_not_fit(change: dict[str, Tensor | BlockTensor]) -> None:
    case = Case(tokens=5, experts=4, used=2, width=16, feed_forward=8)
    names = ("x", "gate", "up", "down", "chosen", "share")
    fitting = dict(zip(names, reordered(case, *map(blocks_of, matrices(case))), strict=True))
    with pytest.raises(KernelInputError):
        expert_ffn(**fitting | change, implementation="reference")


def test_stages_refuse_what_does_not_fit() -> None:
    rows = expert_rows(torch.tensor([[0], [0]]), 0, 1)[0]
    with pytest.raises(KernelInputError):
        gated(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(KernelInputError):
        gated(torch.ones(2, 3), torch.ones(2, 3).double())
    with pytest.raises(KernelInputError):
        add_weighted(torch.zeros(2, 4), torch.ones(1, 4), torch.ones(2, 1), rows)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_an_expert_named_twice_by_a_token_counts_twice(implementation: str, tokens: int) -> None:
    shapes = [(4, 64, 32), (4, 64, 32), (4, 32, 64)]
    gate, up, down = (like_weights(BY_NAME["Q8_0"], shape) for shape in shapes)
    x = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(3))
    twice = torch.tensor([[2, 2, 0]]).expand(tokens, 3)
    once = torch.tensor([[2, 0]]).expand(tokens, 2)
    share = torch.tensor([[0.25, 0.5, 1.0]]).expand(tokens, 3)
    joined = torch.tensor([[0.75, 1.0]]).expand(tokens, 2)
    got = expert_ffn(x, gate, up, down, twice, share, implementation=implementation)
    expected = expert_ffn(x, gate, up, down, once, joined, implementation=implementation)
    assert_close(got, expected, 1e-6)
