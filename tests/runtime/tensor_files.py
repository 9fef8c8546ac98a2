"""Files of single tensors in any format, with random bytes in their blocks."""

from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np

from kernels.dequantize.cases import any_bits
from kernels.formats import BlockFormat

SHAPE = (3, 7, 512)  # experts, rows, columns
ROWS = 21


def tensor_file(path: Path, formats: Iterable[BlockFormat], shape: tuple[int, ...] = SHAPE) -> Path:
    """One tensor of `shape` per format, under the format's name."""
    writer = gguf.GGUFWriter(path, "deepseek2")
    for seed, known in enumerate(formats):
        blocks = any_bits(known, shape, seed).blocks.numpy()
        kind = gguf.GGMLQuantizationType(known.ggml_id)
        if known.block_weights == 1:
            blocks = blocks.view({"F32": np.float32, "F16": np.float16}.get(known.name, np.uint8))
        writer.add_tensor(known.name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
