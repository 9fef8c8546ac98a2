"""The kernel that merges the splits of decode attention; see `gpu.py`.

A program owns one head and a tile of columns, and every load of it is independent of the others.
"""

import triton
import triton.language as tl


@triton.jit
def merge_splits(
    partial,  # [tokens, heads, splits, LATENT] float32, float16 or bfloat16
    statistics,  # [tokens, heads, splits, 2] float32
    seen,  # [tokens] int32
    out,  # [tokens, heads, LATENT] float32
    splits,
    min_tokens,
    LATENT: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    GRANULE: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    visible = tl.load(seen + tl.program_id(2))
    per_split = tl.cdiv(tl.cdiv(visible, splits), GRANULE) * GRANULE
    count = tl.cdiv(visible, tl.maximum(per_split, min_tokens))
    row = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    every = tl.arange(0, SPLITS)
    scores = statistics + row * splits * 2
    largest = tl.max(tl.load(scores + every * 2, every < count, float("-inf")), 0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros([AT_ONCE], tl.float32)
    values = tl.zeros([AT_ONCE, COLUMNS], tl.float32)
    parts = partial + row * splits * LATENT
    for first in range(0, count, AT_ONCE):
        split = first + tl.arange(0, AT_ONCE)
        known = split < count
        weight = tl.exp2(tl.load(scores + split * 2, known, float("-inf")) - largest)
        weight *= tl.load(scores + split * 2 + 1, known, 0.0)
        total += weight
        part = known[:, None] & (column < LATENT)
        mean = tl.load(parts + split[:, None] * LATENT + column, part, 0.0)
        values += weight[:, None] * mean.to(tl.float32)
    merged = tl.sum(values, 0)[None, :] / tl.sum(total, 0)
    tl.store(out + row * LATENT + column, merged, column < LATENT)
