"""What there is to place: every tensor of a model file with its bytes, role, layer and experts.

`hybrid.gguf` makes a `ModelInventory` from a file; nothing here opens one.
"""

from dataclasses import dataclass
from enum import Enum
from math import prod


class Role(str, Enum):
    """What a tensor is for; decides where it goes when no rule says."""

    EMBEDDING = "embedding"
    HEAD = "head"
    NORM = "norm"
    ATTENTION = "attention"
    DENSE_FFN = "dense_ffn"
    ROUTER = "router"
    SHARED_EXPERT = "shared_expert"
    ROUTED_EXPERT = "routed_expert"
    MTP = "mtp"  # next-token-prediction block: accounted for, not loaded yet
    UNUSED = "unused"  # in the file, never read (a derived copy, an unknown name)

    @property
    def is_loaded(self) -> bool:
        return self not in (Role.MTP, Role.UNUSED)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of the file.

    shape    row-major, slowest first: [rows, columns], [experts, rows, columns] or [length]
    format   name of the block format, as in `kernels.formats`: "Q4_K"
    nbytes   bytes of its data in the file, without padding
    layer    block number, None for tensors outside blocks
    experts  length of the expert dimension, 0 when the tensor has none
    """

    name: str
    shape: tuple[int, ...]
    format: str
    nbytes: int
    role: Role
    layer: int | None = None
    experts: int = 0

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's slice; the whole tensor when it has no expert dimension."""
        return self.nbytes // self.experts if self.experts else self.nbytes

    @property
    def matrix_values(self) -> int:
        """Values of one expert's matrix; of the whole tensor when it has no expert dimension."""
        return prod(self.shape[1:] if self.experts else self.shape)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions that decide cache and scratch bytes; counts of values, not bytes."""

    layers: int  # trunk blocks, without next-token-prediction blocks
    dense_layers: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    key_length: int  # per head, no-position and rope parts together (192)
    value_length: int  # per head (128)
    latent_length: int  # values of one latent cache row (512)
    rope_length: int  # rotated values of one cache row (64)
    vocabulary: int
    expert_count: int
    expert_used_count: int
    expert_feed_forward_length: int
    shared_feed_forward_length: int
    trained_context_tokens: int

    @property
    def cache_row_length(self) -> int:
        """Values cached per token and layer: latent and rotated key."""
        return self.latent_length + self.rope_length


@dataclass(frozen=True, slots=True)
class ModelInventory:
    """Every tensor of one model in file order, and the shape that cache and scratch follow from."""

    name: str
    architecture: str
    shape: ModelShape
    tensors: tuple[TensorInfo, ...]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def has_tied_head(self) -> bool:
        """No tensor of its own for the head: the embedding serves as head too."""
        return not any(tensor.role is Role.HEAD for tensor in self.tensors)

    def by_role(self) -> dict[Role, int]:
        """Bytes per role, roles that do not occur left out."""
        total: dict[Role, int] = {}
        for tensor in self.tensors:
            total[tensor.role] = total.get(tensor.role, 0) + tensor.nbytes
        return total
