"""The kernel of prompt attention; `gpu_prompt.py` launches it.

A program holds a tile of one head's queries and walks the keys: first the tiles that all its
queries see, without a mask, then those on the diagonal. Tiles of late queries start first: they
are the longest.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens", "start"])
def expanded_prompt_kernel(
    q,
    k_nope,  # pointer, or with BULK a descriptor of [seen, all heads' columns]; so k_rope and v
    k_rope,
    v,
    out,
    scale,
    tokens,
    start,
    q_token,
    q_head,
    k_row,
    k_head,
    k_rope_row,
    v_row,
    v_head,
    out_token,
    out_head,
    NOPE: tl.constexpr,
    ROPE: tl.constexpr,
    VALUE: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    V: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    BULK: tl.constexpr,
):
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * M
    head = tl.program_id(1)
    query = tl.arange(0, M)[:, None]
    real = first + query < tokens
    d, r, e = tl.arange(0, D)[None, :], tl.arange(0, R)[None, :], tl.arange(0, V)[None, :]
    mine = q + first.to(tl.int64) * q_token + head.to(tl.int64) * q_head + query * q_token
    q_nope = tl.load(mine + d, real & (d < NOPE), 0.0)
    q_rope = tl.load(mine + NOPE + r, real & (r < ROPE), 0.0)
    kind = q_nope.dtype
    to_base_2 = scale * 1.4426950408889634

    largest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    values = tl.zeros([M, V], tl.float32)
    seen = tl.minimum(start + first + M, start + tokens)
    seen_by_all = (start + first + 1) // N * N
    row = tl.arange(0, N)[:, None]
    for masked in tl.static_range(2):
        begin = seen_by_all if masked else 0
        end = seen if masked else seen_by_all
        for at in range(begin, end, N):
            if BULK:
                keys = k_nope.load([at, head * k_head])
                rope = k_rope.load([at, 0])
            else:
                here = at + row < seen
                base = k_nope + tl.cast(at, tl.int64) * k_row + head.to(tl.int64) * k_head
                keys = tl.load(base + row * k_row + d, here & (d < NOPE), 0.0)
                base = k_rope + tl.cast(at, tl.int64) * k_rope_row
                rope = tl.load(base + row * k_rope_row + r, here & (r < ROPE), 0.0)
            score = tl.dot(q_nope, tl.trans(keys), input_precision="ieee")
            score = tl.dot(q_rope, tl.trans(rope), score, input_precision="ieee") * to_base_2
            if masked:
                visible = at + tl.arange(0, N)[None, :] <= start + first + query
                score = tl.where(visible, score, float("-inf"))
            grown = tl.maximum(largest, tl.max(score, 1))
            weight = tl.exp2(score - grown[:, None])
            shrink = tl.exp2(largest - grown)
            total = total * shrink + tl.sum(weight, 1)
            if BULK:
                value = v.load([at, head * v_head])
            else:
                here = at + row < seen
                base = v + tl.cast(at, tl.int64) * v_row + head.to(tl.int64) * v_head
                value = tl.load(base + row * v_row + e, here & (e < VALUE), 0.0)
            values *= shrink[:, None]
            values = tl.dot(weight.to(kind), value, values, input_precision="ieee")
            largest = grown

    place = out + first.to(tl.int64) * out_token + head.to(tl.int64) * out_head
    values = (values / total[:, None]).to(out.dtype.element_ty)
    tl.store(place + query * out_token + e, values, real & (e < VALUE))
