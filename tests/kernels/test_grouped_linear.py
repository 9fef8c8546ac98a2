"""Grouped products of the routed experts: reference and Triton, interpreted, against float64."""

from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import Tensor

from kernels import grouped_linear
from kernels.errors import KernelInputError
from kernels.grouped_linear import cases
from kernels.grouped_linear.cases import Case, make
from kernels.testing import assert_close
from tests.kernels import interpreted_grouped

every_case = pytest.mark.parametrize("case", cases.SMALL, ids=str)
HALF, FLOAT, BRAIN = torch.float16, torch.float32, torch.bfloat16


def expected(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """h and the pairs' outputs, a pair after the other in float64; NaN of experts elsewhere."""
    given = make(case, dtype)
    h = given.h.double()
    y = torch.full((case.tokens, case.used, case.width), torch.nan, dtype=torch.float64)
    for token, experts in enumerate(given.chosen.tolist()):
        for slot, expert in enumerate(experts):
            if case.first <= expert < case.first + case.held:
                e, x = expert - case.first, given.x[token].double()
                gate, up, down = (w[e].double() for w in (given.gate, given.up, given.down))
                y[token, slot] = down @ (torch.nn.functional.silu(gate @ x) * (up @ x))
                h[token] += given.share[token, slot] * y[token, slot]
    return h, y.flatten(0, 1)


def check(got: tuple[Tensor, Tensor], case: Case, dtype: torch.dtype) -> None:
    h, y = expected(case, dtype)
    assert_close(got[0], h, cases.RELATIVE_ERROR[dtype])
    elsewhere = y.isnan()
    assert got[1].isnan().equal(elsewhere)
    assert_close(got[1][~elsewhere], y[~elsewhere], cases.RELATIVE_ERROR[dtype])


@every_case
@pytest.mark.parametrize("dtype", [FLOAT, HALF, BRAIN], ids=str)
def test_the_reference_sums_every_pair_of_the_experts_here(case: Case, dtype: torch.dtype) -> None:
    check(interpreted_grouped.experts(case, dtype, "reference"), case, dtype)


@every_case
@pytest.mark.parametrize("dtype", [FLOAT, HALF], ids=str)
def test_triton_sums_every_pair_of_the_experts_here(
    interpreter: ProcessPoolExecutor, case: Case, dtype: torch.dtype
) -> None:
    run = interpreter.submit(interpreted_grouped.experts, case, dtype, "triton")
    check(run.result(), case, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*cases.SMALL, cases.REAL[0]], ids=str)
@pytest.mark.parametrize("dtype", [FLOAT, HALF, BRAIN], ids=str)
def test_a_gpu_sums_every_pair_of_the_experts_here(case: Case, dtype: torch.dtype) -> None:
    got = interpreted_grouped.experts(case, dtype, "triton", "cuda")
    wanted = interpreted_grouped.experts(case, dtype, "reference", "cuda")
    for one, other in zip(got, wanted, strict=True):
        here = ~other.isnan()
        assert one.isnan().equal(~here)
        assert_close(one[here], other[here], 2 * cases.RELATIVE_ERROR[dtype])


def test_pairs_are_sorted_by_expert_and_then_by_token() -> None:
    chosen = torch.tensor([[5, 2], [3, 5], [9, 3]])
    pairs = grouped_linear.pairs_by_expert(chosen, 2, 4)
    assert pairs.order.tolist() == [1, 2, 5, 0, 3, 4]
    assert pairs.offsets.tolist() == [0, 1, 3, 3, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up": torch.zeros(3, 16, 16)}, "differ"),
        ({"gate": torch.zeros(3, 16, 8), "up": torch.zeros(3, 16, 8)}, "do not fit input"),
        ({"out": torch.zeros(5, 16)}, "out"),
        ({"begin": 1}, "3 experts from 1 on, of 3"),
        ({"x": torch.zeros(2, 32, dtype=HALF)}, "one dtype"),
        ({"x": torch.zeros(32, 2).T}, "contiguous"),
        ({"implementation": "cublas"}, "there are triton, reference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given = make(cases.SMALL[0], FLOAT)
    pairs = grouped_linear.pairs_by_expert(torch.tensor([[0, 1], [2, 1]]), 0, 3)
    call = {
        "x": torch.zeros(2, 32),
        "gate": given.gate,
        "up": given.up,
        "pairs": pairs,
        "begin": 0,
        "out": torch.zeros(4, 16),
    }
    grouped_linear.grouped_hidden(**call)  # as it stands it is taken
    with pytest.raises(KernelInputError, match=message):
        grouped_linear.grouped_hidden(**(call | change))
