"""What the interpreting process runs for test_grouped_linear.py; imported there alone."""

import torch
from torch import Tensor

from kernels import grouped_linear
from kernels.grouped_linear.cases import Case, make


def experts(
    case: Case, dtype: torch.dtype, implementation: str | None, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """h after its experts' outputs were added, and y, whose rows held NaN before."""
    given = make(case, dtype, device)
    pairs = grouped_linear.pairs_by_expert(given.chosen, case.first, case.held)
    count = case.tokens * case.used
    hidden = torch.full((count, case.feed_forward), torch.nan, dtype=dtype, device=device)
    y = torch.full((count, case.width), torch.nan, dtype=dtype, device=device)
    for begin in range(0, case.held, case.at_once or case.held):
        some = slice(begin, begin + (case.at_once or case.held))
        gate, up, down = given.gate[some], given.up[some], given.down[some]
        grouped_linear.grouped_hidden(
            given.x, gate, up, pairs, begin, hidden, implementation=implementation
        )
        grouped_linear.grouped_down(hidden, down, pairs, begin, y, implementation=implementation)
    grouped_linear.add_pairs(
        *(given.h, y, given.chosen, given.share, case.first, case.held),
        implementation=implementation,
    )
    return given.h, y
