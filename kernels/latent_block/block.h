// One transformer block with multi-head latent attention, as one job of the worker pool: the records
// of the C border and the phases. library.py has the same records.
#pragma once

#include "../expert_ffn/feed_forward.h"

namespace hybrid {

// One small matrix a head.
struct HeadMatrices {
    Matrix first;  // of head 0
    std::int64_t head_bytes;
};

struct RouterRules {
    std::int32_t experts, used, sigmoid, groups, groups_used, group_top2, normalise;
    float scale;
};

// Everything of a block that no token changes.
struct LatentBlock {
    std::int32_t width, heads, nope, rope, value, latent, query_latent;
    std::int32_t key_transposed;  // 1: key is [heads][latent][nope] (attn_k_b), 0: [heads][nope][latent]
    std::int32_t absorb_up_to;    // tokens of a pass up to which attention is absorbed
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

// Cache rows of one layer: latent, then rotated key.
struct CacheRows {
    void* first;
    std::int64_t row_bytes;
    std::int32_t format;  // ggml id: F32, F16, BF16 or Q8_0
    std::int32_t unused;
};

// One pass over a block.
struct BlockPass {
    float* hidden;  // [tokens][width], in and out
    CacheRows cache;
    const float* cosine;  // [tokens][rope / 2]
    const float* sine;
    std::int32_t tokens, start;
    std::int32_t tier, threads;
    void* workspace;
    std::int64_t workspace_bytes;
};

}  // namespace hybrid
