// One transformer block with multi-head latent attention, as one job of the worker pool: the
// records of the C border and the phases. records.py has the same.
#pragma once

#include "../expert_ffn/feed_forward.h"
#include "../router/router.h"
#include "library.h"

namespace hybrid {

// One small matrix a head.
struct HeadMatrices {
    Matrix first;  // of head 0
    std::int64_t head_bytes;
};

// Everything of a block that no token changes.
struct LatentBlock {
    std::int32_t width, heads, nope, rope, value, latent, query_latent;
    std::int32_t
        key_transposed;  // 1: key is [heads][latent][nope] (attn_k_b), 0: [heads][nope][latent]
    std::int32_t absorb_up_to;  // tokens of a pass up to which attention is absorbed
    std::int32_t expand_up_to;  // cache rows beyond which it is absorbed for more tokens too
    float epsilon, score_scale;
    const float* attention_norm;  // [width]
    const float* query_norm;      // [query_latent], null without a query latent
    const float* latent_norm;     // [latent]
    const float* feed_forward_norm;
    Matrix query_down, query, compress, output;
    HeadMatrices key, value_up;
    Matrix gate, up, down;  // dense, or the shared experts; no blocks where there are none
    Matrix router;          // no blocks in a dense block
    const float* router_bias;
    RouterRules rules;
    Experts experts;
};

// One pass over some blocks.
struct BlockPass {
    float* hidden;        // [tokens][width], in and out
    const float* cosine;  // [tokens][rope / 2]
    const float* sine;
    std::int32_t tokens, start;
    std::int32_t tier, precision, threads;
    std::int32_t usage_experts;  // length of a row of `usage`
    void* workspace;
    std::int64_t workspace_bytes;
    std::int64_t* marks;  // [2 * count + 1] out: ns of the steady clock at the beginning, after
                          // each block's attention, after its feed-forward; null: nobody asks
    std::int64_t* usage;  // [count][usage_experts] in and out: + 1 for each token that chose the
                          // expert; null: nobody asks
};

// Bytes that a pass needs at most: of the workspace that workers share, and of each worker's own.
struct BlockNeeds {
    std::int64_t shared_bytes, own_bytes;
};

}  // namespace hybrid

// One pass over blocks 0 .. count - 1, one after the other, by `threads` workers of the pool.
//   caches   [count] rows 0 .. start - 1 are there, start .. start + tokens - 1 are written
//   returns  0, or an error number of the pool
HYBRID_EXPORT std::int32_t hybrid_latent_blocks(const hybrid::LatentBlock* const* blocks,
                                                const hybrid::CacheRows* caches, std::int32_t count,
                                                const hybrid::BlockPass* pass);

// What a pass of `tokens` tokens that sees `seen` rows needs at most.
HYBRID_EXPORT void hybrid_latent_block_needs(const hybrid::LatentBlock* block, std::int32_t tier,
                                             std::int32_t precision, std::int32_t tokens,
                                             std::int32_t seen, std::int32_t threads,
                                             hybrid::BlockNeeds* needs);
