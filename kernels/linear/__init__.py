"""Contract: y = x Wᵀ with W in blocks."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.choice import choose
from kernels.errors import KernelInputError
from kernels.linear import cpu, gpu, reference

IMPLEMENTATIONS = {
    "native": cpu.linear,
    "rounded": cpu.linear_rounded,
    "cuda": gpu.linear,
    "reference": reference.linear,
}


def linear(x: Tensor, weight: BlockTensor, *, implementation: str | None = None) -> Tensor:
    """y[t, r] = Σ_c x[t, c] W[r, c].

    x                [tokens, columns] float32, on the weight's device; any strides
    weight           [rows, columns] blocks
    implementation   a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns          [tokens, rows] float32, a new tensor

    Weights are decoded exactly. "rounded" rounds x to eight bits as ggml does, per 32 or per 256
    values as the format asks (not for plain floats), about 0.6 % of the result. "cuda" rounds per
    32 for all formats of blocks; it sorts the weight into planes at every call, so it is for tests:
    a model keeps planes and calls `gpu.matvec`. On a CPU it runs in the emulator. The others
    multiply and sum in float32; error against double precision: cases.RELATIVE_ERROR (on a GPU
    while torch's TF32 is off, its default). A row's sum does not depend on the number of threads.
    Does not wait for the GPU.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    _check(x, weight)
    return choose(IMPLEMENTATIONS, implementation, weight.device)(x, weight)


def _check(x: Tensor, weight: BlockTensor) -> None:
    if x.dtype != torch.float32 or x.dim() != 2 or x.shape[1] != weight.columns:
        raise KernelInputError(
            f"x must be float32 [tokens, {weight.columns}], not {x.dtype} {list(x.shape)}"
        )
    if weight.blocks.dim() != 2:
        raise KernelInputError(f"weight must be [rows, columns], not {list(weight.shape)}")
    if x.device != weight.device:
        raise KernelInputError(f"x is on {x.device}, the weight on {weight.device}")
