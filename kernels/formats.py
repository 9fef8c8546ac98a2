"""Block formats of GGUF files: name, ggml id, weights and bytes per block. No torch here.

A row of a tensor is a run of whole blocks. Source: ggml-common.h; a test holds this table against
`gguf.GGML_QUANT_SIZES`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """One storage format.

    ggml_id          type number in the file
    block_weights    consecutive weights of a row that share one block (1 for plain floats)
    block_bytes      bytes of that block
    """

    name: str
    ggml_id: int
    block_weights: int
    block_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of `columns` weights; columns must be whole blocks."""
        return columns // self.block_weights * self.block_bytes


FORMATS = tuple(
    BlockFormat(*row)
    for row in (
        ("F32", 0, 1, 4),
        ("F16", 1, 1, 2),
        ("Q4_0", 2, 32, 18),
        ("Q4_1", 3, 32, 20),
        ("Q5_0", 6, 32, 22),
        ("Q5_1", 7, 32, 24),
        ("Q8_0", 8, 32, 34),
        ("Q2_K", 10, 256, 84),
        ("Q3_K", 11, 256, 110),
        ("Q4_K", 12, 256, 144),
        ("Q5_K", 13, 256, 176),
        ("Q6_K", 14, 256, 210),
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ1_S", 19, 256, 50),
        ("IQ4_NL", 20, 32, 18),
        ("IQ3_S", 21, 256, 110),
        ("IQ2_S", 22, 256, 82),
        ("IQ4_XS", 23, 256, 136),
        ("IQ1_M", 29, 256, 56),
        ("BF16", 30, 1, 2),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("MXFP4", 39, 32, 17),
    )
)
BY_NAME = {block_format.name: block_format for block_format in FORMATS}
BY_ID = {block_format.ggml_id: block_format for block_format in FORMATS}
