"""Contract: decode blocks to float32, bit for bit as ggml does."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.choice import choose
from kernels.dequantize import cpu, reference
from kernels.errors import KernelInputError

IMPLEMENTATIONS = {"native": cpu.dequantize_into, "reference": reference.dequantize_into}


def dequantize(
    weight: BlockTensor, out: Tensor | None = None, *, implementation: str | None = None
) -> Tensor:
    """Every weight of `weight` as float32.

    weight           [..., rows, columns] blocks of any format in `kernels.formats`
    out              float32 tensor of that shape, contiguous, same device; None makes a new one
    implementation   a name of IMPLEMENTATIONS; None: "native" on the CPU, else "reference"
    returns          [..., rows, columns] float32, same device

    Bit-exact with ggml and `gguf.quants.dequantize`. Does not wait for the GPU.
    Raises KernelInputError when out does not fit.
    Source: block layouts of ggml-common.h.
    """
    if out is None:
        out = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    else:
        _check(weight, out)
    choose(IMPLEMENTATIONS, implementation, weight.device)(weight, out)
    return out


def _check(weight: BlockTensor, out: Tensor) -> None:
    if out.dtype != torch.float32 or out.shape != weight.shape or not out.is_contiguous():
        raise KernelInputError(
            f"out must be contiguous float32 {list(weight.shape)},"
            f" not {out.dtype} {list(out.shape)} of strides {out.stride()}"
        )
    if out.device != weight.device:
        raise KernelInputError(f"out is on {out.device}, the weight on {weight.device}")
