"""Contract: encode float32 rows as q8_0 blocks (the quantised latent cache)."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.formats import BY_NAME
from kernels.quantize import reference

Q8_0 = BY_NAME["Q8_0"]


def quantize_q8_0(x: Tensor) -> BlockTensor:
    """d = max|x| / 127 of 32 neighbours, stored as float16; q = round half away (x / d).

    x        [..., columns] float32, finite, columns a multiple of 32
    returns  Q8_0 blocks [..., columns], a new tensor, same device

    Bit-exact with `gguf.quants.quantize` and ggml's scalar encoder. Does not wait for the GPU.
    Raises KernelInputError when the shape or dtype does not fit.
    Source: ggml-quants.c, quantize_row_q8_0_ref.
    """
    if x.dtype != torch.float32 or x.dim() == 0 or x.shape[-1] % Q8_0.block_weights:
        raise KernelInputError(
            f"x must be float32 [..., a multiple of {Q8_0.block_weights}],"
            f" not {x.dtype} {list(x.shape)}"
        )
    return BlockTensor(reference.quantize_q8_0(x), Q8_0, x.shape[-1])
