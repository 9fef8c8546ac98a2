"""Contract: encode float32 rows as q8_0 blocks (the quantised latent cache)."""

from torch import Tensor

from kernels.blocks import BlockTensor


def quantize_q8_0(x: Tensor) -> BlockTensor:
    """x [rows, columns] float32, columns a multiple of 32 -> Q8_0 blocks [rows, columns], same device.

    Bit-exact with `gguf.quants.quantize` for Q8_0: d = max|x|/127 stored as float16, q = round half away (x / d).
    """
    raise AssertionError("written by the kernels' author")
