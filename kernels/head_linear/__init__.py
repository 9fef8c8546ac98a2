"""Contract: one small matrix per attention head (absorbing and unfolding MLA's latent)."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.head_linear import reference


def head_linear(x: Tensor, weight: BlockTensor, *, transposed: bool = False) -> Tensor:
    """y[t, h] = W[h] x[t, h], or W[h]ᵀ x[t, h] when transposed.

    x        [tokens, heads or 1, columns] float32 ([.., rows] when transposed); 1: all heads' input
    weight   [heads, rows, columns] blocks; a cut of heads or of every head's rows is read in place
    returns  [tokens, heads, rows] float32 ([.., columns] when transposed)

    Exact decoding, float32 sums; error against double precision: cases.RELATIVE_ERROR.
    Does not wait for the GPU.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    Source: DeepSeek-V2 report, section 2.1.2 (absorbed W_UK and W_UV).
    """
    _check(x, weight, transposed)
    return reference.head_linear(x, weight, transposed)


def _check(x: Tensor, weight: BlockTensor, transposed: bool) -> None:
    if weight.blocks.dim() != 3:
        raise KernelInputError(f"weight must be [heads, rows, columns], not {list(weight.shape)}")
    heads, rows, columns = weight.shape
    inner = rows if transposed else columns
    if x.dtype != torch.float32 or x.dim() != 3 or x.shape[1] not in (1, heads):
        raise KernelInputError(
            f"x must be float32 [tokens, {heads} or 1, {inner}], not {x.dtype} {list(x.shape)}"
        )
    if x.shape[2] != inner:
        raise KernelInputError(
            f"x must be [tokens, heads, {inner}] for a weight {[heads, rows, columns]}"
            f"{' transposed' if transposed else ''}, not {list(x.shape)}"
        )
    if x.device != weight.device:
        raise KernelInputError(f"x is on {x.device}, the weight on {weight.device}")
