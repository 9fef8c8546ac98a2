"""`BlockTensor`: a weight as it stands in the file, blocks in a byte tensor, on any device."""

from dataclasses import dataclass

import torch

from kernels.errors import KernelInputError
from kernels.formats import BlockFormat


@dataclass(frozen=True, slots=True)
class BlockTensor:
    """Rows of quantised blocks.

    blocks    [..., rows, row_bytes] uint8; a row's bytes are contiguous, rows may be strided
    format    how a row's bytes decode
    columns   weights per row

    Slicing (`weight[expert]`, `weight[:, :128]`) cuts leading dimensions and shares memory.
    """

    blocks: torch.Tensor
    format: BlockFormat
    columns: int

    def __post_init__(self) -> None:
        if self.blocks.dtype != torch.uint8:
            raise KernelInputError(f"blocks must be uint8, not {self.blocks.dtype}")
        expected = self.format.row_bytes(self.columns)
        if self.columns % self.format.block_weights or self.blocks.shape[-1] != expected:
            raise KernelInputError(
                f"a row of {self.columns} {self.format.name} weights is {expected} bytes,"
                f" not {self.blocks.shape[-1]}"
            )
        if self.blocks.stride(-1) != 1:
            raise KernelInputError("the bytes of a row must be contiguous")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.blocks.shape[:-1], self.columns)

    @property
    def nbytes(self) -> int:
        return self.blocks.numel()

    @property
    def device(self) -> torch.device:
        return self.blocks.device

    def __getitem__(self, leading: int | slice | tuple[int | slice, ...]) -> "BlockTensor":
        return BlockTensor(self.blocks[leading], self.format, self.columns)
