"""Contract: decode blocks to float32, bit for bit as ggml does."""

from torch import Tensor

from kernels.blocks import BlockTensor


def dequantize(weight: BlockTensor, out: Tensor | None = None) -> Tensor:
    """Every weight of `weight` as float32.

    weight   [..., rows, columns] blocks of any format in `kernels.formats`
    out      float32 tensor of that shape, contiguous, same device; None makes a new one
    returns  [..., rows, columns] float32, same device

    Bit-exact with ggml and `gguf.quants.dequantize`. On the CPU the native library decodes; elsewhere reference.py.
    Raises KernelInputError when out does not fit.
    Source: block layouts of ggml-common.h.
    """
    raise AssertionError("written by the kernels' author")
