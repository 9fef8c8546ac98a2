"""A routed expert matrix cut over NUMA nodes, and how its bytes come out of the file.

    gate, up    file  [experts][F rows][row]             part n  [experts][Fn rows][row]
    down        file  [experts][rows][row of F values]   part n  [experts][rows][Fn values of it]

Fn is node n's stretch of the feed-forward length F (`node_layout.py`). Rows of gate and up are one
run of the file per expert and node, read straight to their place; rows of down are read whole into
a reader's own buffer and their stretches copied from there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from hybrid.gguf.reader import GgufTensor
from hybrid.runtime.node_layout import Bounds
from kernels.blocks import BlockTensor


@dataclass(frozen=True, slots=True)
class NodeParts:
    """One matrix of a range of experts, a part of it on each node.

    parts   node n's blocks, [experts, Fn, row_bytes] of gate and up, [experts, width, bytes of Fn
            columns] of down; each contiguous, in memory bound to the node
    """

    parts: tuple[BlockTensor, ...]
    cut_columns: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole: [experts, rows, columns]."""
        experts, rows, columns = self.parts[0].shape
        if self.cut_columns:
            columns = sum(part.columns for part in self.parts)
        else:
            rows = sum(part.shape[1] for part in self.parts)
        return (experts, rows, columns)

    def __getitem__(self, experts: slice) -> "NodeParts":
        """Fewer experts, the same memory."""
        return NodeParts(tuple(p[experts] for p in self.parts), self.cut_columns)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the file and where they belong.

    offset    of the first byte, from the tensor's start
    targets   one contiguous tensor of bytes; or stretches of the same rows, each [rows, bytes]
    """

    tensor: GgufTensor
    offset: int
    targets: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(target.numel() for target in self.targets)


def halves(weight: BlockTensor | NodeParts) -> tuple[BlockTensor | NodeParts, ...]:
    """Gate and up of a tensor that holds both: the first and the second half of its rows."""
    if isinstance(weight, BlockTensor):
        return _halves(weight)
    gates, ups = zip(*map(_halves, weight.parts), strict=True)
    return tuple(replace(weight, parts=parts) for parts in (gates, ups))


def node_parts(tensor: GgufTensor, bounds: Bounds, rooms: Sequence[Tensor]) -> NodeParts:
    """The parts of a matrix over memory that is still empty.

    rooms   per node a uint8 tensor of its part's bytes
    """
    cut_columns = is_down(tensor)
    row_bytes = tensor.format.row_bytes
    parts = []
    for room, width in zip(rooms, _widths(bounds), strict=True):
        columns = width if cut_columns else tensor.shape[2]
        rows = tensor.shape[1] if cut_columns else tensor.shape[1] * width // bounds[-1]
        blocks = room.view(-1, rows, row_bytes(columns))
        parts.append(BlockTensor(blocks, tensor.format, columns))
    return NodeParts(tuple(parts), cut_columns)


def part_pieces(
    tensor: GgufTensor, bounds: Bounds, offset: int, parts: NodeParts, most_bytes: int
) -> Iterator[Piece]:
    """What has to be read to fill the parts, in the file's order, up to `most_bytes` at a time.

    offset   of the first expert's bytes, from the tensor's start
    """
    row_bytes = tensor.format.row_bytes(tensor.shape[2])
    flat = [part.blocks.flatten(0, 1) for part in parts.parts]
    if parts.cut_columns:
        step = max(most_bytes // row_bytes, 1)
        for row in range(0, flat[0].shape[0], step):
            stretches = tuple(part[row : row + step] for part in flat)
            yield Piece(tensor, offset + row * row_bytes, stretches)
        return
    # Gate and up in one tensor are two matrices of F rows for each expert.
    for matrix in range(parts.shape[0] * tensor.shape[1] // bounds[-1]):
        for part, first, width in zip(flat, bounds[:-1], _widths(bounds), strict=True):
            run = part[matrix * width : (matrix + 1) * width].flatten()
            start = offset + (matrix * bounds[-1] + first) * row_bytes
            for byte in range(0, run.numel(), most_bytes):
                yield Piece(tensor, start + byte, (run[byte : byte + most_bytes],))


def is_down(tensor: GgufTensor) -> bool:
    return ".ffn_down_exps." in tensor.name


def _halves(weight: BlockTensor) -> tuple[BlockTensor, BlockTensor]:
    middle = weight.shape[1] // 2
    return weight[:, :middle], weight[:, middle:]


def _widths(bounds: Bounds) -> list[int]:
    return [end - first for first, end in zip(bounds[:-1], bounds[1:], strict=True)]
