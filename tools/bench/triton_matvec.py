"""y = W x for Q8_0 and Q4_K planes in Triton: what linear/gpu.cu is compared with.

"float" makes floats of the numbers; "dp4a" multiplies int8, which Triton has only as inline
assembly. Both give a program some rows and all their groups of 32. dp4a takes x rounded before,
at no cost in the comparison.
"""

# ruff: noqa: N803  Triton's constants are written large

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.planar import PlanarTensor

DP4A = "dp4a.s32.s32 $0, $1, $2, 0;"
BLOCK_ROWS, BLOCK_GROUPS, WARPS = 4, 64, 4


@triton.jit
def places(row, group, rows, groups):
    """Number of each group among those of all rows, and which there are."""
    inside = (row[:, None] < rows) & (group[None, :] < groups)
    return row[:, None].to(tl.int64) * groups + group[None, :], inside


@triton.jit
def halves_of(x, group, groups, HALF: tl.constexpr):
    """Both halves of each group of x, HALF elements each."""
    at = x + group[:, None] * (2 * HALF) + tl.arange(0, HALF)[None, :]
    there = group[:, None] < groups
    return tl.load(at, there, 0), tl.load(at + HALF, there, 0)


@triton.jit
def q8_0_float(data, x, y, rows, groups, BLOCK_ROWS: tl.constexpr, BLOCK_GROUPS: tl.constexpr):
    """Planes n8, n8, d; x float32 [32 groups]."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    byte = tl.arange(0, 16)
    total = tl.cast(rows, tl.int64) * groups
    sums = tl.zeros([BLOCK_ROWS], tl.float32)
    for begin in range(0, groups, BLOCK_GROUPS):
        group = begin + tl.arange(0, BLOCK_GROUPS)
        at, inside = places(row, group, rows, groups)
        words = at[:, :, None] * 16 + byte[None, None, :]
        low = tl.load((data + words).to(tl.pointer_type(tl.int8)), inside[:, :, None], 0)
        high = tl.load(
            (data + total * 16 + words).to(tl.pointer_type(tl.int8)), inside[:, :, None], 0
        )
        d = tl.load((data + total * 32).to(tl.pointer_type(tl.float16)) + at, inside, 0.0)
        x_low, x_high = halves_of(x, group, groups, 16)
        product = low.to(tl.float32) * x_low[None] + high.to(tl.float32) * x_high[None]
        sums += tl.sum(tl.sum(product, 2) * d.to(tl.float32), 1)
    tl.store(y + row, sums, row < rows)


@triton.jit
def q4_k_header(data, total, at, group, inside):
    """scale and minimum of each group, float32."""
    header = data + total * 16 + at // 8 * 16
    halves = header.to(tl.pointer_type(tl.float16))
    d = tl.load(halves, inside, 0.0).to(tl.float32)
    dmin = tl.load(halves + 1, inside, 0.0).to(tl.float32)
    g = group[None, :] % 8
    low = tl.load(header + 4 + g, inside, 0).to(tl.int32)
    high = tl.load(header + 12 + g // 2, inside, 0).to(tl.int32) >> 4 * (g % 2)
    scale = (low & 15) | (high & 3) << 4
    minimum = low >> 4 | (high >> 2 & 3) << 4
    return d * scale.to(tl.float32), dmin * minimum.to(tl.float32)


@triton.jit
def q4_k_float(data, x, y, rows, groups, BLOCK_ROWS: tl.constexpr, BLOCK_GROUPS: tl.constexpr):
    """Planes n4, header; x float32 [32 groups]."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    byte = tl.arange(0, 16)
    total = tl.cast(rows, tl.int64) * groups
    sums = tl.zeros([BLOCK_ROWS], tl.float32)
    for begin in range(0, groups, BLOCK_GROUPS):
        group = begin + tl.arange(0, BLOCK_GROUPS)
        at, inside = places(row, group, rows, groups)
        n4 = tl.load(data + at[:, :, None] * 16 + byte[None, None, :], inside[:, :, None], 0)
        scale, minimum = q4_k_header(data, total, at, group, inside)
        x_low, x_high = halves_of(x, group, groups, 16)
        product = (n4 & 15).to(tl.float32) * x_low[None] + (n4 >> 4).to(tl.float32) * x_high[None]
        x_sum = tl.sum(x_low + x_high, 1)
        sums += tl.sum(tl.sum(product, 2) * scale - minimum * x_sum[None], 1)
    tl.store(y + row, sums, row < rows)


@triton.jit
def dot_words(words, x, DP4A: tl.constexpr):
    products = tl.inline_asm_elementwise(
        DP4A, "=r,r,r", [words, tl.broadcast_to(x[None], words.shape)],
        dtype=tl.int32, is_pure=True, pack=1,
    )  # fmt: skip
    return tl.sum(products, 2)


@triton.jit
def q8_0_dp4a(data, numbers, factors, y, rows, groups, BLOCK_ROWS: tl.constexpr,
              BLOCK_GROUPS: tl.constexpr, DP4A: tl.constexpr):  # fmt: skip
    """numbers int32 [8 groups], factors float32 [groups, 2]: d and d times the sum."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    word = tl.arange(0, 4)
    total = tl.cast(rows, tl.int64) * groups
    sums = tl.zeros([BLOCK_ROWS], tl.float32)
    for begin in range(0, groups, BLOCK_GROUPS):
        group = begin + tl.arange(0, BLOCK_GROUPS)
        at, inside = places(row, group, rows, groups)
        words = data.to(tl.pointer_type(tl.int32)) + at[:, :, None] * 4 + word[None, None, :]
        low = tl.load(words, inside[:, :, None], 0)
        high = tl.load(words + total * 4, inside[:, :, None], 0)
        d = tl.load((data + total * 32).to(tl.pointer_type(tl.float16)) + at, inside, 0.0)
        x_low, x_high = halves_of(numbers, group, groups, 4)
        factor = tl.load(factors + 2 * group, group < groups, 0.0)
        product = dot_words(low, x_low, DP4A) + dot_words(high, x_high, DP4A)
        sums += tl.sum(product.to(tl.float32) * d.to(tl.float32) * factor[None], 1)
    tl.store(y + row, sums, row < rows)


@triton.jit
def q4_k_dp4a(data, numbers, factors, y, rows, groups, BLOCK_ROWS: tl.constexpr,
              BLOCK_GROUPS: tl.constexpr, DP4A: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    word = tl.arange(0, 4)
    total = tl.cast(rows, tl.int64) * groups
    sums = tl.zeros([BLOCK_ROWS], tl.float32)
    for begin in range(0, groups, BLOCK_GROUPS):
        group = begin + tl.arange(0, BLOCK_GROUPS)
        at, inside = places(row, group, rows, groups)
        words = data.to(tl.pointer_type(tl.int32)) + at[:, :, None] * 4 + word[None, None, :]
        n4 = tl.load(words, inside[:, :, None], 0)
        scale, minimum = q4_k_header(data, total, at, group, inside)
        x_low, x_high = halves_of(numbers, group, groups, 4)
        factor = tl.load(factors + 2 * group, group < groups, 0.0)
        x_sum = tl.load(factors + 2 * group + 1, group < groups, 0.0)
        product = dot_words(n4 & 0x0F0F0F0F, x_low, DP4A)
        product += dot_words(n4 >> 4 & 0x0F0F0F0F, x_high, DP4A)
        sums += tl.sum(product.to(tl.float32) * scale * factor[None] - minimum * x_sum[None], 1)
    tl.store(y + row, sums, row < rows)


FLOAT = {"Q8_0": q8_0_float, "Q4_K": q4_k_float}
DOT = {"Q8_0": q8_0_dp4a, "Q4_K": q4_k_dp4a}


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """numbers and factors of one row x."""
    groups = x.view(-1, 32)
    d = groups.abs().amax(1, keepdim=True) / 127
    numbers = (groups / d).round().to(torch.int8)
    factors = torch.cat((d, d * numbers.float().sum(1, keepdim=True)), dim=1)
    return numbers.view(torch.int32), factors.contiguous()


def matvec_float(weight: PlanarTensor, x: Tensor, y: Tensor) -> None:
    """x, y float32 [1, columns], [1, rows]."""
    grid = (triton.cdiv(weight.rows, BLOCK_ROWS),)
    FLOAT[weight.format.name][grid](
        weight.data, x, y, weight.rows, weight.columns // 32, BLOCK_ROWS, BLOCK_GROUPS,
        num_warps=WARPS,
    )  # fmt: skip


def matvec_dp4a(weight: PlanarTensor, numbers: Tensor, factors: Tensor, y: Tensor) -> None:
    grid = (triton.cdiv(weight.rows, BLOCK_ROWS),)
    DOT[weight.format.name][grid](
        weight.data, numbers, factors, y, weight.rows, weight.columns // 32, BLOCK_ROWS,
        BLOCK_GROUPS, DP4A, num_warps=WARPS,
    )  # fmt: skip
