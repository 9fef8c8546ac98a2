"""Contract: root-mean-square norm."""

import torch
from torch import Tensor

from kernels.choice import choose
from kernels.errors import KernelInputError
from kernels.rms_norm import cpu, reference

IMPLEMENTATIONS = {"native": cpu.rms_norm, "reference": reference.rms_norm}


def rms_norm(
    x: Tensor, weight: Tensor, epsilon: float, *, implementation: str | None = None
) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) * weight over the last dimension.

    x                [..., width] float32
    weight           [width] float32, on x's device
    implementation   a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns          same shape as x, float32, a new tensor

    Sums in float32. Error against float64: cases.RELATIVE_ERROR.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: Zhang and Sennrich, arXiv 1910.07467.
    """
    if x.dtype != torch.float32 or weight.dtype != torch.float32:
        raise KernelInputError(f"x and weight must be float32, not {x.dtype} and {weight.dtype}")
    if x.ndim == 0 or weight.shape != x.shape[-1:]:
        raise KernelInputError(f"weight {tuple(weight.shape)} is not as wide as x {tuple(x.shape)}")
    if x.device != weight.device:
        raise KernelInputError(f"x is on {x.device}, weight on {weight.device}")
    return choose(IMPLEMENTATIONS, implementation, x.device)(x, weight, epsilon)
