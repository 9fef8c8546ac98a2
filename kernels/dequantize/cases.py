"""Shapes and block makers for tests and benches of every op that takes blocks."""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.formats import BlockFormat

SMALL = [(1, 1), (3, 5), (7, 2), (33, 3)]  # rows, blocks of a row: odd on purpose
REAL = [(2048, 7168), (7168, 2048)]  # rows, columns: DeepSeek-V3 expert, gate or up, and down

# Byte offsets of a block's float16 scales.
HALVES_AT = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def any_bits(block_format: BlockFormat, shape: tuple[int, ...], seed: int = 0) -> BlockTensor:
    """Random bytes: every bit pattern is a legal block, infinite and NaN scales too."""
    *leading, columns = shape
    return BlockTensor(
        _random_bytes((*leading, block_format.row_bytes(columns)), seed), block_format, columns
    )


def like_weights(block_format: BlockFormat, shape: tuple[int, ...], seed: int = 0) -> BlockTensor:
    """Random blocks with scales of about 0.05, as trained weights have: finite, alike in size."""
    *leading, columns = shape
    name = block_format.name
    if name in PLAIN:
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05
        return BlockTensor(values.to(PLAIN[name]).view(torch.uint8), block_format, columns)
    weight = any_bits(block_format, shape, seed)
    blocks = weight.blocks.view(-1, block_format.block_bytes)
    scales = torch.empty(len(blocks), 1).uniform_(
        0.02, 0.08, generator=torch.Generator().manual_seed(seed)
    )
    for at in HALVES_AT.get(name, ()):
        blocks[:, at : at + 2] = scales.to(torch.float16).view(torch.uint8)
    if name == "MXFP4":
        blocks[:, 0] = 120 + blocks[:, 0] % 4
    if name == "IQ1_M":
        _spread_half(blocks, scales)
    return weight


def _random_bytes(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _spread_half(blocks: Tensor, scales: Tensor) -> None:
    """IQ1_M keeps its scale in the top nibbles of four words."""
    pattern = scales.to(torch.float16).view(torch.int16).int()
    for word in range(4):
        at = 49 + 2 * word
        nibble = (pattern[:, 0] >> 4 * word & 15).to(torch.uint8)
        blocks[:, at] = blocks[:, at] & 15 | nibble << 4
