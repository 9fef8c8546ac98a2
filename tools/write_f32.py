"""A copy of a GGUF file with every tensor as float32: the same weights, no rounding left to decode.

python -m tools.write_f32 IN.gguf OUT.gguf
"""

import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGUFValueType


def write_f32(source: Path, target: Path) -> None:
    """Copy metadata and tensors of one file that is not split; `target` is overwritten."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        element = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        shape = [int(length) for length in reversed(tensor.shape)]
        writer.add_tensor(tensor.name, values.reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write_f32(Path(sys.argv[1]), Path(sys.argv[2]))
