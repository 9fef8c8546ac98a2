"""The latent cache: per layer one row of latent_length + rope_length values a token, in the format
the user chose.

There is no value cache: values are the first latent_length entries of the same row (reference:
DeepSeek-V2, 2.1.3). A layer's rows lie on the layer's home device, or in RAM that the home reads
(`cache_rooms.py`), reserved and touched at load, so a full context cannot run out of memory.
"""

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.formats import BY_NAME
from kernels.latent_block import CacheMemory
from kernels.quantize import quantize_q8_0

FLOAT_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
FORMAT_OF = {dtype: BY_NAME[name.upper()] for name, dtype in FLOAT_TYPES.items()}
Q8_0 = BY_NAME["Q8_0"]
ROWS_AT_ONCE = 4096


class FloatCache:
    """Rows as plain floats.

    memory   uint8 tensor of at least context * width * itemsize bytes, on the layer's home
    in_ram   whatever the home is: a GPU then reads the rows over its bus
    """

    def __init__(self, memory: Tensor, width: int, dtype: torch.dtype, *, in_ram: bool) -> None:
        self._rows = memory.view(dtype).view(-1, width)
        self._in_ram = in_ram

    def write(self, start: int, rows: Tensor) -> None:
        """Store rows [T, width] float32 at positions start .. start+T-1."""
        self._rows[start : start + len(rows)] = rows.to(self._rows.dtype)

    def read(self, end: int) -> Tensor:
        """Rows 0 .. end-1 as float32 [end, width]."""
        return self._rows[:end].float()

    def read_as(self, end: int, dtype: torch.dtype) -> Tensor:
        """Rows 0 .. end-1 as [end, width] of dtype: a view where the rows are of that type and at
        home. Over a bus each row comes once, however often the copy is read.
        """
        return self._rows[:end].to(dtype, copy=self._in_ram)

    def memory(self) -> CacheMemory:
        """The rows' bytes, for native code."""
        return CacheMemory(self._rows.view(torch.uint8), FORMAT_OF[self._rows.dtype])


class QuantisedCache:
    """Rows as Q8_0 blocks, the width padded with zeros to whole blocks of 32."""

    def __init__(self, memory: Tensor, width: int) -> None:
        self._width = width
        self._padded = padded_width(width)
        self._rows = memory.view(-1, Q8_0.row_bytes(self._padded))

    def write(self, start: int, rows: Tensor) -> None:
        """Store rows [T, width] float32 at positions start .. start+T-1, rounded to 8 bits per
        block."""
        padded = torch.nn.functional.pad(rows, (0, self._padded - self._width))
        self._rows[start : start + len(rows)] = quantize_q8_0(padded).blocks

    def read(self, end: int) -> Tensor:
        """Rows 0 .. end-1 as float32 [end, width]."""
        return dequantize(BlockTensor(self._rows[:end], Q8_0, self._padded))[:, : self._width]

    def read_as(self, end: int, dtype: torch.dtype) -> Tensor:
        """Rows 0 .. end-1 as [end, width] of dtype; no more than ROWS_AT_ONCE are float32 at
        once.
        """
        out = torch.empty(end, self._width, dtype=dtype, device=self._rows.device)
        for begin in range(0, end, ROWS_AT_ONCE):
            some = self._rows[begin : min(begin + ROWS_AT_ONCE, end)]
            floats = dequantize(BlockTensor(some, Q8_0, self._padded))
            out[begin : begin + len(some)] = floats[:, : self._width]
        return out

    def memory(self) -> CacheMemory:
        """The rows' bytes, for native code."""
        return CacheMemory(self._rows, Q8_0)


def padded_width(width: int) -> int:
    """Values of a row rounded up to whole Q8_0 blocks."""
    return -(-width // Q8_0.block_weights) * Q8_0.block_weights


def make_cache(
    memory: Tensor, width: int, cache_format: str, *, in_ram: bool = False
) -> FloatCache | QuantisedCache:
    """A layer's cache over reserved memory; zeroing it here is the first touch of its pages."""
    memory.zero_()
    if cache_format == "q8_0":
        return QuantisedCache(memory, width)
    return FloatCache(memory, width, FLOAT_TYPES[cache_format], in_ram=in_ram)
