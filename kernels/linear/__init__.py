"""Contract: y = x Wᵀ with W in blocks."""

from torch import Tensor

from kernels.blocks import BlockTensor


def linear(x: Tensor, weight: BlockTensor) -> Tensor:
    """y[t, r] = Σ_c x[t, c] W[r, c].

    x        [tokens, columns] float32, on the weight's device
    weight   [rows, columns] blocks
    returns  [tokens, rows] float32, a new tensor

    Weights are decoded exactly, products and sums are float32. Error against reference.py: cases.RELATIVE_ERROR.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    raise AssertionError("written by the kernels' author")
