"""The split kernel of decode attention for wgmma and the bulk copy engine: sm_90, f16 or bf16 rows.

Tokens are rows and heads are columns of every product, so 16 heads are a narrow product of wgmma
and not a quarter of a padded one, and all operands stay in shared memory:

    score  [N, H] = keys [N, F + R] . queries [F + R, H]
    values [F, H] = keys^T [F, N] . weight [N, H]

The kernel in front writes the queries and the step's own row. Everything else is older, since that
kernel waited for its own predecessor before it let this one start: so a program looks up its length
before it waits.
"""

import triton
import triton.language as tl


@triton.jit
def absorbed_split_hopper(
    q,  # [tokens, heads, WIDTH] float32
    first_columns,  # descriptor of the cache rows, tiles [N, F]
    rest_columns,  # the same rows, tiles [N, R]
    seen,  # [tokens] int32
    first_row,  # [tokens] int64, or any pointer where not HAS_FIRST_ROW
    partial,  # [tokens, heads, splits, LATENT] float32 or as the cache
    statistics,  # [tokens, heads, splits, 2] float32: largest score in base 2, sum
    scale,
    heads,
    min_tokens,
    LATENT: tl.constexpr,
    WIDTH: tl.constexpr,
    F: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    N: tl.constexpr,
    GRANULE: tl.constexpr,
    HAS_FIRST_ROW: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    split = tl.program_id(0)
    token = tl.program_id(2)
    splits = tl.num_programs(0)
    visible = tl.load(seen + token)
    per_split = tl.cdiv(tl.cdiv(visible, splits), GRANULE) * GRANULE
    per_split = tl.maximum(per_split, min_tokens)
    begin = split * per_split
    rows = tl.minimum(per_split, visible - begin)
    row = begin
    if HAS_FIRST_ROW:
        row += tl.load(first_row + token).to(tl.int32)
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    if rows <= 0:
        return

    head = tl.program_id(1) * H + tl.arange(0, H)[None, :]
    real_head = head < heads
    column = tl.arange(0, F)[:, None]
    rope_column = LATENT + tl.arange(0, R)[:, None]
    q_row = q + token * heads * WIDTH + head * WIDTH
    q_first = tl.load(q_row + column, (column < LATENT) & real_head, 0.0)
    q_rest = tl.load(q_row + rope_column, (rope_column < WIDTH) & real_head, 0.0)
    to_base_2 = scale * 1.4426950408889634
    kind = first_columns.dtype
    if kind == tl.float16:
        # Absorbed queries may exceed it: the largest of all heads becomes 4096, and what is 2^26
        # times smaller is still a normal number. One factor for all is one sum over the block.
        unit = tl.maximum(tl.max(tl.abs(q_first)), tl.max(tl.abs(q_rest)))
        factor = tl.where(unit > 0, 4096 / unit, 1.0)
        q_first *= factor
        q_rest *= factor
        to_base_2 *= tl.where(unit > 0, unit * (1 / 4096), 1.0)
    q_first = q_first.to(kind)
    q_rest = q_rest.to(kind)

    largest = tl.full([H], float("-inf"), tl.float32)
    total = tl.zeros([H], tl.float32)
    values = tl.zeros([F, H], tl.float32)
    for done in range(0, rows, N):
        keys = first_columns.load([row + done, 0])
        rest = rest_columns.load([row + done, LATENT])
        # Scaled apart and masked in a branch: where the compiler sees one product flow into
        # another, it lets every warpgroup compute all of the first.
        score = tl.dot(keys, q_first) * to_base_2 + tl.dot(rest, q_rest) * to_base_2
        if rows - done < N:
            here = done + tl.arange(0, N)[:, None] < rows
            score = tl.where(here, score, float("-inf"))
        grown = tl.maximum(largest, tl.max(score, 0))
        shrink = tl.exp2(largest - grown)
        weight = tl.exp2(score - grown[None, :])
        total = total * shrink + tl.sum(weight, 0)
        values *= shrink[None, :]
        values = tl.dot(tl.trans(keys), weight.to(kind), values)
        largest = grown

    before = (token * heads).to(tl.int64) * splits + split
    place = head * splits
    known = (column < LATENT) & real_head
    tl.store(partial + before * LATENT + (place * LATENT + column), values / total[None, :], known)
    tl.store(statistics + before * 2 + place * 2, largest[None, :], real_head)
    tl.store(statistics + before * 2 + (place * 2 + 1), total[None, :], real_head)
