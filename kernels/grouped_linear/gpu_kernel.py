"""The kernels of the grouped products; `gpu.py` launches them.

The grid has room for the most tiles that the pairs can fill; each program finds its expert from the
offsets, and those beyond the last tile end at once.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of(offsets, experts, number, E: tl.constexpr, M: tl.constexpr):
    """The expert of a tile, `experts` or more beyond the last one; its first pair and the expert's
    end.
    """
    each = tl.arange(0, E)
    begins = tl.load(offsets + each, each < experts, 0)
    ends = tl.load(offsets + each + 1, each < experts, 0)
    tiles = (ends - begins + M - 1) // M
    tiles_up_to = tl.cumsum(tiles, 0)
    expert = tl.sum((tiles_up_to <= number).to(tl.int32), 0)
    mine = each == expert
    before = tl.sum(tl.where(mine, tiles_up_to - tiles, 0), 0)
    begin = tl.sum(tl.where(mine, begins, 0), 0) + (number - before) * M
    return expert, begin, tl.sum(tl.where(mine, ends, 0), 0)


# One compilation for all groups of experts of a layer.
@triton.jit(do_not_specialize=["experts"], do_not_specialize_on_alignment=["offsets"])
def grouped_product(
    source,  # [tokens, columns], or without GATED [pairs, columns] in sorted order
    first,  # [experts, rows, columns]: gate, or without GATED the only matrix
    second,  # up; not read without GATED
    order,
    offsets,  # of the first of `experts`
    out,  # [pairs, rows] in sorted order; without GATED row `pair`
    experts,
    used,
    rows,
    columns,
    GATED: tl.constexpr,
    WHOLE: tl.constexpr,  # rows and columns are multiples of the tiles
    E: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    expert, begin, end = tile_of(offsets, experts, tl.program_id(0), E, M)
    if expert >= experts:
        return
    place = begin + tl.arange(0, M)
    real = place < end
    pair = tl.load(order + place, real, 0)
    row = (pair // used if GATED else tl.where(real, place, begin)).to(tl.int64)
    n = tl.program_id(1) * N + tl.arange(0, N)
    k = tl.arange(0, K)
    x_at = source + row[:, None] * columns + k[None, :]
    weight_at = (expert.to(tl.int64) * rows + n)[:, None] * columns + k[None, :]
    sums = tl.zeros([M, N], tl.float32)
    others = tl.zeros([M, N], tl.float32)
    for at in range(0, columns, K):
        if WHOLE:
            x = tl.load(x_at + at)
            weight = tl.load(first + weight_at + at)
        else:
            inside = (at + k < columns)[None, :]
            x = tl.load(x_at + at, inside, 0.0)
            weight = tl.load(first + weight_at + at, inside & (n < rows)[:, None], 0.0)
        sums = tl.dot(x, tl.trans(weight), sums, input_precision="ieee")
        if GATED:
            if WHOLE:
                weight = tl.load(second + weight_at + at)
            else:
                weight = tl.load(second + weight_at + at, inside & (n < rows)[:, None], 0.0)
            others = tl.dot(x, tl.trans(weight), others, input_precision="ieee")
    if GATED:
        sums = sums / (1.0 + tl.exp(-sums)) * others
    target = (place if GATED else pair).to(tl.int64)
    out_at = out + target[:, None] * rows + n[None, :]
    tl.store(out_at, sums.to(out.dtype.element_ty), real[:, None] & (n < rows)[None, :])


@triton.jit
def add_pairs(
    h,
    y,
    chosen,
    share,
    used,
    width,
    first_expert,
    experts,
    N: tl.constexpr,
):
    token = tl.program_id(0)
    n = tl.program_id(1) * N + tl.arange(0, N)
    inside = n < width
    h_at = h + token.to(tl.int64) * width + n
    sums = tl.load(h_at, inside, 0.0)
    for slot in range(0, used):
        pair = token.to(tl.int64) * used + slot
        local = tl.load(chosen + pair) - first_expert
        here = (local >= 0) & (local < experts)
        values = tl.load(y + pair * width + n, inside & here, 0.0).to(tl.float32)
        sums += tl.where(here, tl.load(share + pair), 0.0) * values
    tl.store(h_at, sums, inside)
