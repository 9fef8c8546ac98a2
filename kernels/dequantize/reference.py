"""The meaning of every block format, in plain torch on any device; a function per format.

    decode(blocks [n, block_bytes] uint8) -> [n, block_weights] float32

Float operations come in ggml's order: results agree bit for bit, NaN and infinite scales included.
"""

from collections.abc import Callable

from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import reference_iq, reference_k, reference_small

DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    **reference_small.DECODERS,
    **reference_k.DECODERS,
    **reference_iq.DECODERS,
}

# Weights decoded at once: intermediates, up to eight times the result, stay in a CPU's cache.
PART_WEIGHTS = {"cpu": 1 << 18, "other": 1 << 25}


def dequantize_into(weight: BlockTensor, out: Tensor) -> None:
    block_format, decode = weight.format, DECODERS[weight.format.name]
    blocks = weight.blocks.reshape(-1, block_format.block_bytes)
    values = out.view(-1, block_format.block_weights)
    part = PART_WEIGHTS.get(weight.device.type, PART_WEIGHTS["other"]) // block_format.block_weights
    for begin in range(0, len(blocks), part):
        values[begin : begin + part] = decode(blocks[begin : begin + part])
