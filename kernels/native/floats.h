// What a tier offers for everything of a block that is not a weight product: norms, rotations,
// gates, the latent cache and both attention forms. All of it is float32 and runs on the calling
// thread; callers share out tokens, heads or rows, and hand in the scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hybrid {

// Scratch is counted in floats and starts at a multiple of 64 bytes.
constexpr std::size_t kScratchAlignment = 64;

// Rows of partial values are this much of a whole number of floats long.
constexpr std::size_t kValueRow = 16;

constexpr std::size_t whole(std::size_t count, std::size_t of) {
    return (count + of - 1) / of * of;
}

// One row a token, [latent + rope] values; all heads share it.
//
// Formats are ggml ids: F32, F16, BF16, or Q8_0 with the width padded by zeros to whole blocks.
struct CacheRows {
    const std::uint8_t* first;  // of row 0
    std::size_t stride_bytes;
    std::int32_t format;
    std::size_t latent, rope;
};

// Queries in the latent's space, rotated: q[token][head][latent + rope].
//
// Token t sees rows 0 .. visible + t - 1.
struct AbsorbedQueries {
    const float* first;
    std::size_t token_stride, head_stride;  // floats
    std::size_t tokens, heads;
    std::size_t visible;
    float scale;  // of scores, before the softmax
};

// Attention over some of the rows, for queries token * heads + head:
//     largest[q] = the largest score; sum[q] = Σ exp(score - largest[q])
//     values[q][latent] = Σ exp(score - largest[q]) · row, rows value_stride floats apart,
//     whole(latent, kValueRow) of them written
struct PartialAttention {
    float* largest;
    float* sum;
    float* values;
    std::size_t value_stride;
};

// Ordinary attention, all strides in floats:
//     q         [tokens][heads][nope + rope]
//     key       [start + tokens][heads][nope]
//     key_rope  [start + tokens][rope]
//     value     [start + tokens][heads][value]
//     out       [tokens][heads][value]
// Token t sees rows 0 .. start + t.
struct ExpandedAttention {
    const float* q;
    std::size_t q_token, q_head;
    const float* key;
    std::size_t key_row, key_head;
    const float* key_rope;
    std::size_t key_rope_row;
    const float* value;
    std::size_t value_row, value_head;
    float* out;
    std::size_t out_token, out_head;
    std::size_t nope_length, rope_length, value_length;
    std::size_t start;
    float scale;
};

struct FloatFunctions {
    // out = x / sqrt(mean(x²) + epsilon) · weight; out may be x.
    void (*rms_norm)(const float* x, const float* weight, std::size_t width, float epsilon,
                     float* out);

    // x += added, then the same of x.
    void (*add_rms_norm)(float* x, const float* added, const float* weight, std::size_t width,
                         float epsilon, float* out);

    // out = gate / (1 + exp(-gate)) · up; out may be gate or up.
    void (*silu_times)(const float* gate, const float* up, std::size_t count, float* out);

    // sum += factor · x
    void (*add_scaled)(float* sum, const float* x, float factor, std::size_t count);

    // In place, pairs (2i, 2i + 1) of `length` values of each head; cos and sin are [length / 2].
    void (*rotate)(float* x, std::size_t heads, std::size_t head_stride, std::size_t length,
                   const float* cos, const float* sin);

    // One row of `width` floats in the cache's format.
    void (*write_cache_row)(std::int32_t format, const float* x, std::size_t width, void* out);

    // Rows begin .. end - 1 as floats, `out_stride` apart; out_stride - (latent + rope) zeros
    // follow each.
    void (*read_cache_rows)(const CacheRows& rows, std::size_t begin, std::size_t end, float* out,
                            std::size_t out_stride);

    // Over rows begin .. end - 1. Scratch: absorbed_scratch().
    void (*absorbed_attention)(const CacheRows& rows, std::size_t begin, std::size_t end,
                               const AbsorbedQueries& queries, const PartialAttention& out,
                               float* scratch);

    // Joins `parts` of query `query`, of disjoint rows: out[latent].
    void (*join_attention)(const PartialAttention* parts, std::size_t count, std::size_t query,
                           std::size_t latent, float* out);

    // One head's queries begin .. end - 1. Scratch: expanded_scratch().
    void (*expanded_attention)(const ExpandedAttention& attention, std::size_t head,
                               std::size_t begin, std::size_t end, float* scratch);
};

constexpr std::size_t kCacheTile = 32;      // cache rows decoded at a time
constexpr std::size_t kAbsorbedGroup = 64;  // queries whose scores stay in the L1 cache
constexpr std::size_t kKeyTile = 64;        // keys that expanded attention packs at a time

// Floats of scratch for rows of `width` values.
constexpr std::size_t absorbed_scratch(std::size_t width) {
    return kCacheTile * whole(width, kValueRow) + kAbsorbedGroup * (kCacheTile + 2);
}

// Floats of scratch for `queries` of one head at a time.
constexpr std::size_t expanded_scratch(std::size_t key_length, std::size_t value_length,
                                       std::size_t queries) {
    const std::size_t key = whole(key_length, kValueRow), value = whole(value_length, kValueRow);
    return kKeyTile * (key + kValueRow + value) + whole(queries, kValueRow) * (key + value + 2) +
           kValueRow * (kKeyTile + 2);
}

}  // namespace hybrid
