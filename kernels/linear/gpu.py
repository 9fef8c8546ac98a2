"""Few tokens through up to three planar matrices in one launch of `gpu.cu`: the products of decode.

Weights are exact. For formats of blocks x is rounded to int8 per 32 values, as ggml does on GPUs;
plain floats are multiplied with float32 x. Neither waits nor allocates, so it can be captured.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kernels.blocks import BlockTensor
from kernels.cuda import Kernel, Program, Record
from kernels.errors import KernelInputError
from kernels.planar import MatrixRecord, PlanarTensor, to_planar
from kernels.planar.gpu import BOOK_BYTES

PROGRAM = Program("linear/gpu.cu")
MOST_PRODUCTS = 3
TOKENS = (1, 2, 4, 8)
MOST_THREADS = {1: 512, 2: 512, 4: 512, 8: 448}  # of a processor: registers allow no more
ROWS = 2  # kRows of gpu.cu
WARP = 32
SHARED_BYTES = 96 << 10  # of a block on sm_86, 89 and 120, beside what kernels have by themselves
TOGETHER = {  # weights in a load of one token: formats of pairs_k.h and pairs_iq.h
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ2_0", "IQ1_S", "IQ1_M"), 64),
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), 64),
    "TQ1_0": 256,
}
FLOAT_UNITS = {"F32": 4, "F16": 8, "BF16": 8}  # weights in 16 bytes
# A step of one token takes so many loads of a lane without a branch, others 2: kUnits of gpu.cu.
STEPS = {**dict.fromkeys(FLOAT_UNITS, 4), "IQ1_S": 4, "TQ1_0": 1}


class ProductRecord(ctypes.Structure):
    """Product of gpu.cu."""

    _fields_ = (
        ("weight", MatrixRecord),
        ("out", ctypes.c_void_p),
        ("add", ctypes.c_int32),
        ("format", ctypes.c_int32),
        ("lane_bits", ctypes.c_int32),
        ("warp_bits", ctypes.c_int32),
        ("first_block", ctypes.c_int32),
        ("blocks", ctypes.c_int32),
    )


class MatvecRecord(Record):
    """MatvecRecord of gpu.cu."""

    _fields_ = (
        ("products", ProductRecord * MOST_PRODUCTS),
        ("x", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("epsilon", ctypes.c_float),
        ("columns", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("count", ctypes.c_int32),
    )


@dataclass(frozen=True, slots=True)
class Product:
    """out[t] = W x̂[t], or += with `add`.

    weight    [rows, columns], any format; leading dimensions count as rows
    out       [tokens or more, rows] float32, contiguous, same device
    """

    weight: PlanarTensor
    out: Tensor
    add: bool = False


def matvec(
    x: Tensor,
    products: Sequence[Product],
    tokens: int,
    norm: Tensor | None = None,
    epsilon: float = 0.0,
) -> None:
    """out[t] (+)= W x̂[t] for each product, x̂ = x, or x / sqrt(mean x² + epsilon) * norm.

    x         [tokens or more, columns] float32, contiguous, on the weights' device
    products  one to three, of any formats, all of x's columns
    tokens    1 to 8
    norm      [columns] float32 or None

    A sum's order depends on the matrices of the launch, on how many tokens a block has and on the
    GPU's multiprocessors. Error against the product of the rounded x: cases.RELATIVE_ERROR.
    Raises KernelInputError when shapes, dtypes or devices do not fit.
    """
    _check(x, products, tokens, norm)
    formats = tuple(dict.fromkeys(product.weight.format.name for product in products))
    columns = x.shape[1]
    per_block, shared_bytes = _tokens_of_block(formats, columns, tokens)
    threads, blocks = _grid(products, per_block, x.device)
    record = MatvecRecord(
        x=x.data_ptr(),
        norm=norm.data_ptr() if norm is not None else None,
        epsilon=epsilon,
        columns=columns,
        tokens=tokens,
        count=len(products),
    )
    first = 0
    for index, (product, count) in enumerate(zip(products, blocks, strict=True)):
        record.products[index] = ProductRecord(
            product.weight.record(),
            product.out.data_ptr(),
            product.add,
            formats.index(product.weight.format.name),
            _lanes(product.weight, per_block).bit_length() - 1,
            _warps(product.weight, per_block, threads, count).bit_length() - 1,
            first,
            count,
        )
        first += count
    grid = (first, -(-tokens // per_block), 1)
    kernel(per_block, formats, x.device).launch(grid, threads, record, shared_bytes)


def linear(x: Tensor, weight: BlockTensor) -> Tensor:
    """`kernels.linear` through matvec, eight tokens at a time, for tests and comparisons.

    Sorts the blocks into planes at every call, which costs more than the product.
    """
    rows, most = weight.shape[0], TOKENS[-1]
    y = torch.empty(len(x), rows, device=x.device)
    if not y.numel():
        return y
    planar, x = to_planar(weight), x.contiguous()
    for begin in range(0, len(x), most):
        part, out = x[begin : begin + most].clone(), torch.empty(most, rows, device=x.device)
        matvec(part, [Product(planar, out)], len(part))
        y[begin : begin + most] = out[: len(part)]
    return y


@lru_cache
def kernel(tokens: int, formats: tuple[str, ...], device: torch.device) -> Kernel:
    """The instance for so many tokens of a block and these formats."""
    return PROGRAM.kernel(f"matvec<{tokens}, {', '.join(formats)}>", device)


def _tokens_of_block(formats: tuple[str, ...], columns: int, tokens: int) -> tuple[int, int]:
    """Tokens whose x fits into the shared memory of a block, and those bytes."""
    nbytes = max(
        -(-columns // 8) * 32 if name in FLOAT_UNITS else (columns // 32 + 1) // 2 * 80
        for name in formats
    )
    needs = {count: count * nbytes for count in TOKENS}
    needs[1] += max(BOOK_BYTES.get(name, 0) for name in formats)
    wanted = next(count for count in TOKENS if count >= tokens)
    fitting = [count for count in TOKENS if count <= wanted and needs[count] <= SHARED_BYTES]
    if not fitting:
        raise KernelInputError(f"{columns} columns take {needs[1]} bytes of shared memory a token")
    return fitting[-1], needs[fitting[-1]]


def _lanes(weight: PlanarTensor, tokens: int) -> int:
    """Lanes that share a row: as many as it keeps busy."""
    name = weight.format.name
    units = _units(weight, tokens)
    steps = STEPS.get(name, 2) if tokens == 1 and name not in FLOAT_UNITS else 1
    choices = [lanes for lanes in (32, 16, 8, 4, 2) if lanes >= ROWS * tokens]
    busy = {lanes: units / (-(-units // (lanes * steps)) * lanes * steps) for lanes in choices}
    return next(
        (lanes for lanes in choices if busy[lanes] >= 0.85),
        max(choices, key=lambda lanes: busy[lanes]),
    )


def _units(weight: PlanarTensor, tokens: int) -> int:
    """Loads of a row."""
    name = weight.format.name
    unit = FLOAT_UNITS.get(name, TOGETHER.get(name, 32) if tokens == 1 else 32)
    return -(-weight.columns // unit)


def _warps(weight: PlanarTensor, tokens: int, threads: int, blocks: int) -> int:
    """Warps that share a row: more than one where a block has fewer tiles than warps."""
    if tokens > 1:
        return 1
    lanes, name = _lanes(weight, tokens), weight.format.name
    tiles = -(-weight.rows // (ROWS * WARP // lanes))
    idle = threads // WARP // -(-tiles // blocks)
    steps = _units(weight, tokens) // (lanes * STEPS.get(name, 2))
    return 1 << max(1, min(idle, steps)).bit_length() - 1


def _grid(products: Sequence[Product], tokens: int, device: torch.device) -> tuple[int, list[int]]:
    """Threads of a block, and blocks of each product so that all run at once, about equally long.

    Every block rounds x for itself: long rows get large blocks, so that few do.
    """
    columns = products[0].weight.columns
    most = MOST_THREADS[tokens]
    threads = most if columns > 5120 else 128 if tokens > 1 and columns <= 2560 else most // 2
    if device.type == "cpu":
        threads, room = 64, 3
    else:
        room = _processors(device) * (most // threads)
    tile_rows = [ROWS * WARP // _lanes(product.weight, tokens) for product in products]
    tiles = [
        -(-product.weight.rows // rows) for product, rows in zip(products, tile_rows, strict=True)
    ]
    few = 1 if tokens > 1 else room if device.type == "cpu" else _processors(device)
    most_blocks = [min(count, max(few, -(-count * WARP // threads))) for count in tiles]
    share = sum(product.weight.nbytes for product in products) / room
    while True:
        blocks = [
            max(1, min(count, int(product.weight.nbytes / share)))
            for product, count in zip(products, most_blocks, strict=True)
        ]
        if sum(blocks) <= max(room, len(products)):
            return threads, blocks
        share *= 1.02


@lru_cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _check(x: Tensor, products: Sequence[Product], tokens: int, norm: Tensor | None) -> None:
    if not 1 <= len(products) <= MOST_PRODUCTS or not 1 <= tokens <= TOKENS[-1]:
        raise KernelInputError(f"{len(products)} products of {tokens} tokens: 1 to 3 and 1 to 8")
    if x.dtype != torch.float32 or x.dim() != 2 or len(x) < tokens or not _plain(x):
        raise KernelInputError(
            f"x must be contiguous float32 [{tokens}, columns], not {x.dtype} {list(x.shape)}"
        )
    if norm is not None and (norm.shape != x.shape[1:] or not _like(norm, x)):
        raise KernelInputError(f"norm must be float32 [{x.shape[1]}] on {x.device}")
    for product in products:
        weight, out = product.weight, product.out
        if weight.columns != x.shape[1] or weight.device != x.device or not weight.rows:
            raise KernelInputError(
                f"a weight {list(weight.shape)} on {weight.device} for x {list(x.shape)}"
                f" on {x.device}"
            )
        if out.dim() != 2 or len(out) < tokens or out.shape[1] != weight.rows or not _like(out, x):
            raise KernelInputError(
                f"out must be contiguous float32 [{tokens}, {weight.rows}], not {list(out.shape)}"
            )


def _plain(tensor: Tensor) -> bool:
    return tensor.is_contiguous() and tensor.data_ptr() % 16 == 0


def _like(tensor: Tensor, x: Tensor) -> bool:
    return tensor.dtype == x.dtype and tensor.device == x.device and _plain(tensor)
