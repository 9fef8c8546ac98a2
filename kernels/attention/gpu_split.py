"""The split kernel of decode attention for every architecture and cache format; see `gpu.py`.

Letters of shapes: H heads of a group, N rows of a tile, F first columns of a cache row (the
latent, or for q8_0 the blocks that hold it), R the columns after them, all padded to powers of 2.
"""

import triton
import triton.language as tl


@triton.jit
def absorbed_split(
    q,  # [tokens, heads, WIDTH] float32
    cache,  # rows of floats, or of int16 words of q8_0 blocks
    seen,  # [tokens] int32
    first_row,  # [tokens] int64, or any pointer where not HAS_FIRST_ROW
    partial,  # [tokens, heads, splits, LATENT] float32 or as the cache
    statistics,  # [tokens, heads, splits, 2] float32: largest score in base 2, sum
    scale,
    heads,
    min_tokens,
    LATENT: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,  # elements of a cache row
    FIRST: tl.constexpr,
    F: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    N: tl.constexpr,
    GRANULE: tl.constexpr,
    QUANTISED: tl.constexpr,
    HAS_FIRST_ROW: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:  # the step's own row and its length are written by the kernels just before
        tl.extra.cuda.gdc_wait()
    split = tl.program_id(0)
    token = tl.program_id(2)
    splits = tl.num_programs(0)
    visible = tl.load(seen + token)
    per_split = tl.cdiv(tl.cdiv(visible, splits), GRANULE) * GRANULE
    per_split = tl.maximum(per_split, min_tokens)
    begin = split * per_split
    if begin >= visible:
        return
    end = tl.minimum(begin + per_split, visible)

    head = tl.program_id(1) * H + tl.arange(0, H)[:, None]
    real_head = head < heads
    column_f = tl.arange(0, F)[None, :]
    column_r = FIRST + tl.arange(0, R if R > 0 else 1)[None, :]
    q_row = q + token * heads * WIDTH + head * WIDTH
    q_first = tl.load(q_row + column_f, (column_f < min(FIRST, WIDTH)) & real_head, 0.0)
    if R > 0:
        q_rest = tl.load(q_row + column_r, (column_r < WIDTH) & real_head, 0.0)
    to_base_2 = tl.full([H, 1], 1.4426950408889634, tl.float32) * scale
    kind = tl.float16 if QUANTISED else cache.dtype.element_ty
    if kind == tl.float16:  # absorbed queries may exceed it: the largest of a head becomes 4096
        unit = tl.max(tl.abs(q_first), 1)[:, None]
        if R > 0:
            unit = tl.maximum(unit, tl.max(tl.abs(q_rest), 1)[:, None])
            q_rest *= tl.where(unit > 0, 4096 / unit, 1.0)
        q_first *= tl.where(unit > 0, 4096 / unit, 1.0)
        to_base_2 *= tl.where(unit > 0, unit * (1 / 4096), 1.0)
    q_first = q_first.to(kind)
    if R > 0:
        q_rest = q_rest.to(kind)

    start = begin.to(tl.int64)
    if HAS_FIRST_ROW:
        start += tl.load(first_row + token)
    tile = cache + start * STRIDE
    largest = tl.full([H], float("-inf"), tl.float32)
    total = tl.zeros([H, N], tl.float32)  # summed over rows once, after the loop
    values = tl.zeros([H, F], tl.float32)
    row = tl.arange(0, N)[:, None]
    for done in range(0, end - begin, N):
        here = row < end - begin - done
        at = tile + row * STRIDE
        if QUANTISED:
            keys = q8_0_columns(at, here, 0, N, F // 32, FIRST // 32)
        else:
            keys = tl.load(at + column_f, here & (column_f < FIRST), 0.0)
        score = tl.dot(q_first, tl.trans(keys), input_precision="ieee")
        if R > 0:
            if QUANTISED:
                rest = q8_0_columns(at, here, FIRST // 32, N, R // 32, (WIDTH + 31) // 32)
            else:
                rest = tl.load(at + column_r, here & (column_r < WIDTH), 0.0)
            score = tl.dot(q_rest, tl.trans(rest), score, input_precision="ieee")
        seen_here = tl.arange(0, N)[None, :] < end - begin - done
        score = tl.where(seen_here, score * to_base_2, float("-inf"))
        grown = tl.maximum(largest, tl.max(score, 1))
        shrink = tl.exp2(largest - grown)[:, None]
        weight = tl.exp2(score - grown[:, None])
        total = total * shrink + weight
        values *= shrink
        values = tl.dot(weight.to(kind), keys, values, input_precision="ieee")
        largest = grown
        tile += N * STRIDE

    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
    before = (token * heads).to(tl.int64) * splits + split
    place = head * splits
    known = (column_f < LATENT) & real_head
    sums = tl.sum(total, 1)[:, None]
    tl.store(partial + before * LATENT + (place * LATENT + column_f), values / sums, known)
    tl.store(statistics + before * 2 + place * 2, largest[:, None], real_head)
    tl.store(statistics + before * 2 + (place * 2 + 1), sums, real_head)


@triton.jit
def q8_0_columns(at, here, first, N: tl.constexpr, BLOCKS: tl.constexpr, END: tl.constexpr):
    """float16 [N, 32 BLOCKS] from block `first` on of the rows at int16 pointers `at` [N, 1].

    A block is a float16 scale and 32 int8, so only 2-byte words are aligned: two codes a load.
    """
    block = first + tl.arange(0, BLOCKS)[None, :]
    known = here & (block < END)
    scale = tl.load(at + block * 17, known, 0).to(tl.float16, bitcast=True)
    pair = tl.arange(0, 16)[None, None, :]
    word = tl.load((at + block * 17 + 1)[:, :, None] + pair, known[:, :, None], 0)
    low = ((word << 8) >> 8).to(tl.float16) * scale[:, :, None]
    high = (word >> 8).to(tl.float16) * scale[:, :, None]
    return tl.reshape(tl.join(low, high), [N, BLOCKS * 32])
