"""Says where and how much two tensors differ, and poisons fresh memory: for tests and benches.

assert_close(got, expected, cases.RELATIVE_ERROR)     written so that NaN fails
assert_same_bits(got, expected)                       bit for bit, but any NaN equals any NaN
with poisoned_memory(): ...                           torch.empty holds NaN, skipped entries show
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Difference:
    """How far `got` is from `expected`.

    relative_error   |got - expected| / |expected|, norms in float64; NaN if either has one
    where            index of the largest difference, of the first NaN when there is one
    """

    relative_error: float
    where: tuple[int, ...]
    got: float
    expected: float

    def __str__(self) -> str:
        return (
            f"relative error {self.relative_error:.3e}, "
            f"most at {list(self.where)}: {self.got!r} for {self.expected!r}"
        )


def compare(got: Tensor, expected: Tensor) -> Difference:
    """Difference of two tensors of one shape; an AssertionError where shapes differ."""
    assert got.shape == expected.shape, f"shape {list(got.shape)} for {list(expected.shape)}"
    got, expected = got.double().cpu(), expected.double().cpu()
    distance = (got - expected).abs()
    if not distance.numel():
        return Difference(0.0, (), 0.0, 0.0)
    worst = int(torch.where(distance.isnan(), torch.inf, distance).argmax())
    where = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), distance.shape))
    size = float(expected.norm())
    error = float(distance.norm()) / size if size else float(distance.norm())
    return Difference(error, where, float(got[where]), float(expected[where]))


def assert_close(got: Tensor, expected: Tensor, relative_error: float) -> None:
    difference = compare(got, expected)
    assert difference.relative_error < relative_error, f"{difference}; allowed {relative_error:.0e}"


def assert_same_bits(got: Tensor, expected: Tensor) -> None:
    """Float32 tensors of equal bits; NaNs count as equal whatever their payload."""
    assert got.dtype == expected.dtype == torch.float32, f"{got.dtype} for {expected.dtype}"
    assert got.shape == expected.shape, f"shape {list(got.shape)} for {list(expected.shape)}"
    got, expected = got.contiguous().cpu(), expected.contiguous().cpu()
    same = got.view(torch.int32) == expected.view(torch.int32)
    same |= got.isnan() & expected.isnan()
    if same.all():
        return
    where = tuple((~same).nonzero()[0].tolist())
    raise AssertionError(
        f"{int((~same).sum())} of {same.numel()} values differ, first at {list(where)}: "
        f"{float(got[where])!r} for {float(expected[where])!r}"
    )


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Inside, `torch.empty` gives NaN, so that an entry a kernel skips fails any comparison."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
