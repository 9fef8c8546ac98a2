"""Contract: one small matrix per attention head (absorbing and unfolding MLA's latent)."""

from torch import Tensor

from kernels.blocks import BlockTensor


def head_linear(x: Tensor, weight: BlockTensor, *, transposed: bool = False) -> Tensor:
    """y[t, h] = W[h] x[t, h], or W[h]ᵀ x[t, h] when transposed.

    x        [tokens, heads or 1, columns] float32 ([.., rows] when transposed); 1 gives every head the same input
    weight   [heads, rows, columns] blocks
    returns  [tokens, heads, rows] float32 ([.., columns] when transposed)

    Exact decoding, float32 sums. Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report, section 2.1.2 (absorbed W_UK and W_UV).
    """
    raise AssertionError("written by the kernels' author")
