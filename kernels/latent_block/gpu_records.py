"""What `prepare` and `unfold` are given, and what their launches share. Tensors stay referenced by
whoever launches: a captured graph holds addresses only."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.errors import KernelInputError
from kernels.latent_block import CacheMemory
from kernels.planar import MatrixRecord, PlanarTensor

THREADS = 256
CPU_PROCESSORS = 4  # stand in for multiprocessors where kernels are emulated
MOST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class HeadRows:
    """`count` rows of each head from its row `first` on.

    weight   [heads, rows, columns] planes; a joined key and value matrix [heads, nope + value,
             latent] is the key as (0, nope), the value as (nope, value)
    """

    weight: PlanarTensor
    first: int
    count: int

    def __post_init__(self) -> None:
        shape = self.weight.shape
        if len(shape) != 3 or not 0 <= self.first <= shape[1] - self.count or self.count < 1:
            raise KernelInputError(
                f"rows {self.first} to {self.first + self.count} are not in the heads of {shape}"
            )

    @property
    def heads(self) -> int:
        return self.weight.shape[0]

    @property
    def head_rows(self) -> int:
        """From a head's first row to the next head's."""
        return self.weight.shape[1]

    def record(self) -> MatrixRecord:
        record = self.weight.record()
        record.first_row += self.first
        return record


@dataclass(frozen=True, slots=True)
class Angles:
    """Of the rotary embedding.

    positions   [tokens] int32
    frequency   [rope / 2] float64, radians per position (`kernels.rope.frequencies`)
    amplitude   multiplies what is rotated
    """

    positions: Tensor
    frequency: Tensor
    amplitude: float = 1.0


@dataclass(frozen=True, slots=True)
class NewRows:
    """What becomes a step's rows of the cache.

    kv      [tokens, latent + rope] float32, as projected
    norm    [latent] float32
    cache   bytes of F32, F16, BF16 or Q8_0 rows, those of Q8_0 padded with zeros to whole blocks
    rows    [tokens] int64: the places in the cache
    """

    kv: Tensor
    norm: Tensor
    epsilon: float
    cache: CacheMemory
    rows: Tensor


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries that become absorbed.

    q            [tokens, heads, nope + rope] float32
    key          [heads, latent, nope] where `transposed`, else [heads, nope, latent]
    absorbed     [tokens, heads, latent + rope] float32, the result
    """

    q: Tensor
    key: HeadRows
    transposed: bool
    absorbed: Tensor


class AnglesRecord(ctypes.Structure):
    _fields_ = [
        ("positions", ctypes.c_void_p),
        ("frequency", ctypes.c_void_p),
        ("amplitude", ctypes.c_float),
        ("rope", ctypes.c_int32),
    ]


class NewRowsRecord(ctypes.Structure):
    _fields_ = [
        ("kv", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("cache", ctypes.c_void_p),
        ("row_bytes", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("latent", ctypes.c_int32),
        ("format", ctypes.c_int32),
    ]


def check(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape or not tensor.is_contiguous():
        raise KernelInputError(
            f"{name} must be contiguous {dtype} {shape}, not {tensor.dtype} {tuple(tensor.shape)}"
        )


def check_devices(device: torch.device, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise KernelInputError(f"{name} is on {tensor.device}, others on {device}")


def token_class(tokens: int) -> int:
    """The TOKENS of the kernel that takes so many."""
    if not 1 <= tokens <= MOST_TOKENS:
        raise KernelInputError(f"a step has 1 to {MOST_TOKENS} tokens, not {tokens}")
    return 1 << (tokens - 1).bit_length()


def format_struct(weight: PlanarTensor) -> str:
    """The struct of formats.h, or of head_rows.h, that reads it."""
    is_whole = weight.format.block_weights == 1 and weight.columns % 32 == 0
    return f"Whole<{weight.format.name}>" if is_whole else weight.format.name


def unit_weights(weight: PlanarTensor) -> int:
    """Weights a thread fetches at once: kUnit of formats.h."""
    return 16 // weight.format.block_bytes if weight.format.block_weights == 1 else 32


def input_bytes(weight: PlanarTensor, columns: int) -> int:
    """Shared memory of a token's input: float_bytes and rounded_bytes of activations.h."""
    if weight.format.block_weights == 1:
        return -(-columns // 8) * 32
    return (columns // 32 + 1) // 2 * 80


def processors(device: torch.device) -> int:
    if device.type == "cpu":
        return CPU_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def power_of_two_in(number: int) -> int:
    """The largest power of 2 that divides it."""
    return number & -number
