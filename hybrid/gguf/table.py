"""The tensor table of one file: what each tensor is, and where its bytes must lie.

| header, metadata, table | padding | tensor | padding | tensor | ...
                          data start, a multiple of the alignment; offsets count from it
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from hybrid.errors import UnsupportedModel
from hybrid.gguf.cursor import Cursor
from hybrid.gguf.faults import corrupt, quoted
from hybrid.gguf.metadata import NAME_LIMIT_BYTES
from kernels.formats import BY_ID, FORMATS, BlockFormat

DIMENSION_LIMIT = 4  # ggml has no more
_VALUES_LIMIT = 1 << 63  # ggml counts values in an int64
_SMALLEST_ENTRY_BYTES = 8 + 4 + 8 + 4 + 8  # empty name, one dimension, type, offset
# Writers leave no gaps; an offset further off than this beyond the packed size is not honest.
_GAP_LIMIT_BYTES = 1 << 20

_FOREIGN = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    15: "Q8_K",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    40: "NVFP4",
    41: "Q1_0",
    42: "Q2_0",
}
_FOREIGN_IK = {
    133: "Q6_0",
    137: "IQ2_K",
    138: "IQ3_K",
    139: "IQ4_K",
    140: "IQ5_K",
    141: "IQ6_K",
    144: "IQ4_KS",
    145: "IQ2_KS",
    146: "IQ4_KSS",
    152: "IQ5_KS",
    153: "IQ2_KT",
    154: "IQ3_KT",
    155: "IQ4_KT",
    156: "IQ3_KS",
    157: "IQ2_KL",
    158: "IQ1_KT",
}
_FIRST_INTERLEAVED, _LAST_INTERLEAVED = 200, 399


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file.

    ne       dimensions in file order, fastest first
    nbytes   bytes of its data, without padding
    part     index of the file that holds it
    offset   first byte of its data in that file
    """

    name: str
    ne: tuple[int, ...]
    format: BlockFormat
    nbytes: int
    part: int
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions slowest first: [rows, columns], [experts, rows, columns] or [length]."""
        return self.ne[::-1]

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.offset + self.nbytes


class _Entry(NamedTuple):
    name: str
    ne: tuple[int, ...]
    format: BlockFormat
    nbytes: int
    offset: int  # from the start of the data


def check_tensor_count(cursor: Cursor) -> int:
    """The header's count of tensors, possible in what is left of the file."""
    return cursor.count(_SMALLEST_ENTRY_BYTES, "the count of tensors")


def read_tensors(
    cursor: Cursor, count: int, alignment: int, part: int, file_bytes: int
) -> tuple[GgufTensor, ...]:
    """Decode `count` entries in file order.

    A file that ends before its data is legal here: planning needs none. Raises UnsupportedModel for
    a format that is not in `kernels.formats`; GgufError for a duplicate name, an impossible shape,
    an offset that is unaligned, inside another tensor, or absurdly far beyond the end.
    """
    entries: dict[str, _Entry] = {}
    for index in range(count):
        entry = _read_entry(cursor, f"tensor {index} of {count}")
        if entry.name in entries:
            raise corrupt(cursor.path, f"tensor {quoted(entry.name)} occurs twice")
        entries[entry.name] = entry
    start = _padded(cursor.position, alignment)
    _check_offsets(cursor, list(entries.values()), alignment, file_bytes - start)
    return tuple(
        GgufTensor(entry.name, entry.ne, entry.format, entry.nbytes, part, start + entry.offset)
        for entry in entries.values()
    )


def _read_entry(cursor: Cursor, field: str) -> _Entry:
    name = cursor.string(f"the name of {field}", NAME_LIMIT_BYTES)
    field = f"tensor {quoted(name)}"
    dimensions = cursor.u32(f"the number of dimensions of {field}")
    if not 1 <= dimensions <= DIMENSION_LIMIT:
        raise corrupt(
            cursor.path, f"{field} has {dimensions} dimensions; 1 to {DIMENSION_LIMIT} are possible"
        )
    ne = tuple(cursor.u64(f"dimension {i} of {field}") for i in range(dimensions))
    block_format = _format(cursor, cursor.u32(f"the type of {field}"), field)
    values = math.prod(ne)
    if not 0 < values < _VALUES_LIMIT:
        raise corrupt(cursor.path, f"{field} has the impossible shape {list(ne)}")
    if ne[0] % block_format.block_weights:
        raise corrupt(
            cursor.path,
            f"{field} has rows of {ne[0]} weights",
            f"{block_format.name} stores whole blocks of {block_format.block_weights}",
        )
    nbytes = block_format.row_bytes(ne[0]) * (values // ne[0])
    return _Entry(name, ne, block_format, nbytes, cursor.u64(f"the offset of {field}"))


def _format(cursor: Cursor, number: int, field: str) -> BlockFormat:
    if number in BY_ID:
        return BY_ID[number]
    known = ", ".join(block_format.name for block_format in FORMATS)
    raise UnsupportedModel(
        f"{cursor.path}: {field} has type {number}, {_foreign_name(number)}",
        f"supported: {known}",
        remedy="use a quantisation of the model made of supported types",
    )


def _foreign_name(number: int) -> str:
    if number in _FOREIGN:
        return f"{_FOREIGN[number]}, which this program does not compute with"
    if number in _FOREIGN_IK:
        return f"{_FOREIGN_IK[number]}, a type of ik_llama.cpp alone"
    if _FIRST_INTERLEAVED <= number <= _LAST_INTERLEAVED:
        return "a row-interleaved repacking of ik_llama.cpp"
    return "which is not known"


def _check_offsets(cursor: Cursor, entries: list[_Entry], alignment: int, data_bytes: int) -> None:
    packed = sum(_padded(entry.nbytes, alignment) for entry in entries)
    furthest = packed + alignment * len(entries) + _GAP_LIMIT_BYTES
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.offset):
        field = f"tensor {quoted(entry.name)} at data offset {entry.offset}"
        if entry.offset % alignment:
            raise corrupt(cursor.path, f"{field} is not aligned to {alignment} bytes")
        if entry.offset < end:
            raise corrupt(cursor.path, f"{field} overlaps tensor {before}, which ends at {end}")
        end, before = entry.offset + entry.nbytes, quoted(entry.name)
        if end > max(data_bytes, furthest):
            raise corrupt(
                cursor.path,
                f"{field} lies beyond the end",
                f"{entry.nbytes} bytes; all tensors together take {packed}, the file has "
                f"{max(data_bytes, 0)} bytes of data",
            )


def _padded(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment
