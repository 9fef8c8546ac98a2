import math

import numpy as np
import pytest
import torch

from kernels.errors import KernelInputError
from kernels.rope import IMPLEMENTATIONS, Yarn, cases, frequencies, rope


@pytest.mark.parametrize("shape", cases.SMALL)
@pytest.mark.parametrize("first", [0, cases.FAR])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rope_is_a_complex_rotation_of_adjacent_pairs(
    shape: tuple[int, ...], first: int, implementation: str
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    positions = torch.arange(first, first + shape[0])
    frequency = frequencies(shape[-1], 10000.0)
    pairs = x.double().numpy()[..., 0::2] + 1j * x.double().numpy()[..., 1::2]
    angle = positions.numpy()[:, None] * frequency.numpy()
    angle = angle.reshape(shape[0], *[1] * (len(shape) - 2), shape[-1] // 2)
    turned = 1.5 * pairs * np.exp(1j * angle)
    exact = np.stack((turned.real, turned.imag), -1).reshape(shape)
    found = rope(x, positions, frequency, amplitude=1.5, implementation=implementation).numpy()
    assert np.linalg.norm(found - exact) <= cases.RELATIVE_ERROR * np.linalg.norm(exact)


def test_products_of_rotated_vectors_depend_on_their_distance_only() -> None:
    q, k = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(4))
    frequency = frequencies(16, 10000.0)

    def product(at: int, other: int) -> float:
        turned = rope(q, torch.tensor([at]), frequency), rope(k, torch.tensor([other]), frequency)
        return float((turned[0] * turned[1]).sum())

    assert product(7, 3) == pytest.approx(product(1007, 1003), abs=1e-5)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)


def test_plain_frequencies_fall_from_one_by_powers_of_the_base() -> None:
    assert frequencies(4, 100.0).tolist() == pytest.approx([1.0, 0.1])
    assert frequencies(4, 100.0, linear_factor=4.0).tolist() == pytest.approx([0.25, 0.025])
    assert frequencies(64, 10000.0).dtype == torch.float64


@pytest.mark.parametrize(
    ("base", "yarn", "low", "high"),
    [
        (10000.0, Yarn(40.0, 4096), 10, 23),
        (50000.0, Yarn(32.0, 4096), 8, 20),
        (50000.0, Yarn(32.0, 4096, beta_fast=1.0), 19, 20),
    ],
)
def test_yarn_ramps_between_the_pairs_known_for_real_models(
    base: float, yarn: Yarn, low: int, high: int
) -> None:
    plain, mixed = frequencies(64, base), frequencies(64, base, yarn=yarn)
    slowed = (plain / mixed).tolist()
    assert slowed[: low + 1] == pytest.approx([1.0] * (low + 1))
    assert slowed[high:] == pytest.approx([yarn.factor] * (32 - high))
    middle = (low + high) // 2
    share = (middle - low) / (high - low)
    expected = plain[middle] * (1 - share) + plain[middle] / yarn.factor * share
    assert mixed[middle].item() == pytest.approx(expected.item())


def test_yarn_of_factor_one_changes_nothing() -> None:
    torch.testing.assert_close(frequencies(64, 1e4, yarn=Yarn(1.0, 4096)), frequencies(64, 1e4))


@pytest.mark.parametrize(
    ("length", "base", "yarn"),
    [
        (7, 1e4, None),
        (0, 1e4, None),
        (8, 1.0, None),
        (8, math.nan, None),
        (8, math.inf, None),
        (8, 1e4, Yarn(0.0, 4096)),
        (8, 1e4, Yarn(2.0, 4096, beta_slow=0.0)),
        (8, 1e4, Yarn(2.0, 0)),
    ],
)
def test_frequencies_refuse_numbers_out_of_range(
    length: int, base: float, yarn: Yarn | None
) -> None:
    with pytest.raises(KernelInputError):
        frequencies(length, base, yarn=yarn)


@pytest.mark.parametrize(
    ("x", "positions", "frequency"),
    [
        (torch.ones(2, 8).half(), torch.arange(2), frequencies(8, 1e4)),
        (torch.ones(2, 8), torch.arange(3), frequencies(8, 1e4)),
        (torch.ones(2, 8), torch.arange(2).int(), frequencies(8, 1e4)),
        (torch.ones(2, 8), torch.arange(2), frequencies(6, 1e4)),
        (torch.ones(2, 8), torch.arange(2), frequencies(8, 1e4).float()),
        (torch.ones(2, 8), torch.arange(2, device="meta"), frequencies(8, 1e4)),
    ],
)
def test_rope_refuses_what_does_not_fit(
    x: torch.Tensor, positions: torch.Tensor, frequency: torch.Tensor
) -> None:
    with pytest.raises(KernelInputError):
        rope(x, positions, frequency)
