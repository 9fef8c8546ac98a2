"""`PlanarTensor`: a weight as GPU kernels read it. The same bits as the blocks of the file, sorted.

Blocks of 18, 34, 110 or 210 bytes put their numbers at odd addresses. Here the numbers of all rows
stand in planes, so that a thread takes 32 weights' worth with one aligned load:

    plane    bytes per 32 weights    weight j of 32
    n8       16, twice               byte j of the first plane, or j - 16 of the second
    n4       16                      j < 16: low nibble of byte j; else high nibble of byte j - 16
    n2        8                      bits 2 (j / 4 % 4) of byte j % 4 + 4 (j / 16)
    n1        4                      bit j / 4 of byte j % 4

Planes are at most 16 bytes wide, so that a warp's load is one stretch of memory. A number is n8,
n4, n4 | n1 << 4, n4 | n2 << 4, n2 or n2 | n1 << 2; planes of scales follow (`reference.PLANES`).
Formats with codebooks keep their index bytes, field by field. Plain floats are one plane, as they
were. `formats.h` reads all this.

Must not know: which op reads. Start reading at `to_planar`. Called by whoever loads weights.
"""

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.errors import KernelInputError
from kernels.formats import BlockFormat
from kernels.planar import gpu, reference


class MatrixRecord(ctypes.Structure):
    """`Matrix` of formats.h: planes of `total_rows` rows, of which `rows` from `first_row` on."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("total_rows", ctypes.c_int64),
        ("first_row", ctypes.c_int64),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
    ]


@dataclass(frozen=True, slots=True)
class PlanarTensor:
    """Rows in bit planes, or a range of such rows.

    data         uint8 [bytes of total_rows rows], contiguous, 16-byte aligned
    format       BlockFormat
    shape        (..., rows, columns); leading dimensions are experts or heads
    total_rows   rows whose planes `data` holds
    first_row    where these rows begin among them
    """

    data: Tensor
    format: BlockFormat
    shape: tuple[int, ...]
    total_rows: int
    first_row: int = 0

    def __post_init__(self) -> None:
        expected = self.total_rows * self.format.row_bytes(self.columns)
        if self.data.dtype != torch.uint8 or self.data.shape != (expected,):
            raise KernelInputError(
                f"planes of {self.total_rows} rows of {self.columns} {self.format.name} weights are"
                f" uint8 [{expected}], not {self.data.dtype} {list(self.data.shape)}"
            )
        if not self.data.is_contiguous() or self.data.data_ptr() % 16:
            raise KernelInputError("planes must be contiguous and begin at a multiple of 16 bytes")
        if not 0 <= self.first_row <= self.total_rows - self.rows:
            raise KernelInputError(
                f"rows {self.first_row} to {self.first_row + self.rows} of {self.total_rows}"
            )

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Rows of all leading dimensions together."""
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        return self.rows * self.format.row_bytes(self.columns)

    @property
    def device(self) -> torch.device:
        return self.data.device

    def __getitem__(self, cut: slice) -> "PlanarTensor":
        """A range of the leading dimension (experts, heads, or rows of a matrix); shares memory."""
        begin, end, step = cut.indices(self.shape[0])
        if step != 1:
            raise KernelInputError(f"planes are cut into ranges, not with step {step}")
        shape = (max(0, end - begin), *self.shape[1:])
        rows = math.prod(self.shape[1:-1])
        return PlanarTensor(
            self.data, self.format, shape, self.total_rows, self.first_row + begin * rows
        )

    def record(self) -> MatrixRecord:
        return MatrixRecord(
            self.data.data_ptr(), self.total_rows, self.first_row, self.rows, self.columns
        )


def to_planar(weight: BlockTensor, out: Tensor | None = None) -> PlanarTensor:
    """The planes of `weight`: every bit kept, none added.

    weight    [..., rows, columns] blocks of any format, on any device
    out       uint8 [weight.nbytes] on that device, or None for a new tensor
    returns   PlanarTensor of the same shape, device and number of bytes; its data is `out`

    Goes piece by piece: beside the result about `reference.PIECE_BYTES` of temporaries, and a copy
    of the weight where its leading dimensions are strided. Planes collect bytes from all over the
    tensor, so `out` must not be the memory of the blocks.
    Raises KernelInputError when out does not fit or overlaps the blocks.
    """
    if out is None:
        out = torch.empty(weight.nbytes, dtype=torch.uint8, device=weight.device)
    elif out.device != weight.device:
        raise KernelInputError(f"out is on {out.device}, the weight on {weight.device}")
    elif _overlap(out, weight.blocks):
        raise KernelInputError("planes cannot take the blocks' own memory")
    planar = PlanarTensor(out, weight.format, weight.shape, math.prod(weight.shape[:-1]))
    reference.split_into(weight, planar.data)
    return planar


def place_rows(planar: PlanarTensor, first: int, rows: BlockTensor) -> None:
    """Rows first .. first+n-1 of `planar` become `rows`; the other rows are left as they are.

    planar   whole, or a range of its rows
    first    counted from the first row of `planar`
    rows     [n, columns] blocks of its format, contiguous, on its device, in memory of their own

    For a weight that arrives in pieces: after all of its rows `planar` is what `to_planar` of the
    whole gives. On a GPU by one kernel on the current stream: waits for nothing and takes no
    memory; `prepare_place_rows` compiles it. On the CPU with `reference.PIECE_BYTES` of
    temporaries. Several threads may place rows of one weight.
    Raises KernelInputError when the rows do not fit.
    """
    _check_rows(planar, first, rows)
    first_row = planar.first_row + first
    if planar.device.type == "cpu":
        reference.split_into(rows, planar.data, first_row)
    else:
        per_row = planar.columns // planar.format.block_weights
        gpu.split_into(rows.blocks.view(-1), planar.format, planar.data, first_row * per_row)


def prepare_place_rows(device: torch.device) -> None:
    """Compiles what `place_rows` launches on a GPU. Raises what `kernels.cuda.Program` does."""
    if device.type != "cpu":
        gpu.PROGRAM.kernel(gpu.KERNEL, device)


def as_in_file(known: BlockFormat) -> bool:
    """Whether the planes of a format are its blocks, byte for byte."""
    return len(reference.PLANES[known.name]) == 1


def to_blocks(planar: PlanarTensor) -> BlockTensor:
    """The blocks that `to_planar` was given, bit for bit: a new tensor, same shape and device.

    Written for checks: bits are put back one by one, a piece at a time.
    """
    row_bytes = planar.format.row_bytes(planar.columns)
    blocks = torch.empty(planar.rows, row_bytes, dtype=torch.uint8, device=planar.device)
    reference.join_into(
        planar.data,
        planar.total_rows,
        planar.first_row,
        BlockTensor(blocks, planar.format, planar.columns),
    )
    return BlockTensor(blocks.view(*planar.shape[:-1], row_bytes), planar.format, planar.columns)


def _check_rows(planar: PlanarTensor, first: int, rows: BlockTensor) -> None:
    if (rows.format, rows.columns) != (planar.format, planar.columns) or rows.blocks.ndim != 2:
        raise KernelInputError(
            f"rows of {planar.columns} {planar.format.name} weights, not"
            f" {list(rows.shape)} {rows.format.name}"
        )
    if not 0 <= first <= planar.rows - len(rows.blocks):
        raise KernelInputError(f"rows {first} to {first + len(rows.blocks)} of {planar.rows}")
    if rows.device != planar.device or not rows.blocks.is_contiguous():
        raise KernelInputError(f"rows must be contiguous and on {planar.device}")
    if _overlap(planar.data, rows.blocks):
        raise KernelInputError("planes cannot take the rows' own memory")


def _overlap(one: Tensor, other: Tensor) -> bool:
    if not one.numel() or not other.numel():
        return False
    reach = sum((n - 1) * s for n, s in zip(other.shape, other.stride(), strict=True))
    begin, end = one.data_ptr(), one.data_ptr() + one.numel()
    return begin <= other.data_ptr() + reach and other.data_ptr() < end
