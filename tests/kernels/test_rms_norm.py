import numpy as np
import pytest
import torch

from kernels.errors import KernelInputError
from kernels.rms_norm import IMPLEMENTATIONS, cases, rms_norm


@pytest.mark.parametrize("shape", cases.SMALL)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rms_norm_agrees_with_float64(
    shape: tuple[int, ...], size: float, implementation: str
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * size
    weight = torch.rand(shape[-1], generator=torch.Generator().manual_seed(2)) + 0.5
    exact = x.double().numpy()
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-6) * weight.double().numpy()
    found = rms_norm(x, weight, 1e-6, implementation=implementation)
    assert found.dtype == torch.float32
    assert found.shape == x.shape
    assert np.linalg.norm(found.numpy() - exact) <= cases.RELATIVE_ERROR * np.linalg.norm(exact)


def test_rms_norm_of_zeros_is_zero() -> None:
    assert rms_norm(torch.zeros(2, 8), torch.ones(8), 1e-6).eq(0).all()


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(2, 8), torch.ones(7)),
        (torch.ones(2, 8), torch.ones(1, 8)),
        (torch.ones(2, 8).double(), torch.ones(8)),
        (torch.ones(2, 8), torch.ones(8).half()),
        (torch.ones(()), torch.ones(1)),
        (torch.ones(2, 8), torch.ones(8, device="meta")),
    ],
)
def test_rms_norm_refuses_what_does_not_fit(x: torch.Tensor, weight: torch.Tensor) -> None:
    with pytest.raises(KernelInputError):
        rms_norm(x, weight, 1e-6)
