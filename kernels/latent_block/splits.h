// What the split kernel of decode attention left for a token and head, and its sum over splits.
#pragma once

#include "cuda/device.h"

namespace hybrid {

// ceil(a / b) for 0 <= a < 2^24, b >= 1, in fewer instructions than integer division. The quotient
// by a factor that is wrong in its last bits is wrong by one at most.
DEVICE int ceiling_of_quotient(int a, int b) {
    const float factor = __fdividef(1.0f, static_cast<float>(b));
    int quotient = static_cast<int>(static_cast<float>(a) * factor);
    if (quotient * b < a) ++quotient;
    if ((quotient - 1) * b >= a) --quotient;
    return quotient;
}

struct SplitResults {
    const float* partial;     // [tokens, heads, cap, latent], not yet divided by sums
    const float* statistics;  // [tokens, heads, cap, 2]: largest score in base 2, sum
    const int32_t* seen;      // [tokens]: cache rows that a token sees
    int32_t heads, latent;
    int32_t cap;         // splits there is room for
    int32_t min_tokens;  // of a split
    int32_t granule;     // tokens of a split are a multiple of it

    // Splits that were written.
    __device__ __forceinline__ int count(int token) const {
        const int tokens = seen[token];
        const int share = ceiling_of_quotient(ceiling_of_quotient(tokens, cap), granule) * granule;
        return ceiling_of_quotient(tokens, max(min_tokens, share));
    }
    __device__ __forceinline__ int64_t first(int token, int head) const {
        return static_cast<int64_t>(token * heads + head) * cap;
    }
};

// By one warp: weight[s] = 2^(max_s - max); returns 1 / (sum of weight[s] sum_s), 0 without splits.
DEVICE float split_weights(const SplitResults& results, int token, int head, int count,
                           float* weight) {
    const float2* pairs =
        reinterpret_cast<const float2*>(results.statistics) + results.first(token, head);
    float most = bits_float(0xff800000u);
#pragma unroll 4
    for (int s = lane_index(); s < count; s += kWarp) {
        const float2 pair = pairs[s];
        weight[s] = pair.x;
        weight[results.cap + s] = pair.y;
        most = max(most, pair.x);
    }
    most = warp_max(most);
    float total = 0;
    for (int s = lane_index(); s < count; s += kWarp) {
        weight[s] = exp2f(weight[s] - most);
        total += weight[s] * weight[results.cap + s];
    }
    total = warp_sum(total);
    return total > 0 ? 1.0f / total : 0.0f;
}

// WIDE neighbouring columns of a few splits of every token, all loads under way at once.
template <int TOKENS, int WIDE>
struct SplitColumns {
    static constexpr int kEach = 8 / TOKENS;  // splits of a token
    float value[TOKENS][kEach][WIDE];

    // Splits first, first + stride .. below count[t]; `from` is the column of token 0 in split 0.
    __device__ __forceinline__ void load(const float* from, int64_t token_pitch, int split_pitch,
                                         int first, int stride, const int* count) {
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
#pragma unroll
            for (int i = 0; i < kEach; ++i) {
                const int split = first + i * stride;
#pragma unroll
                for (float& v : value[t][i]) v = 0;
                if (split >= count[t]) continue;
                const float* at =
                    from + t * token_pitch + static_cast<int64_t>(split) * split_pitch;
                if constexpr (WIDE == 4) {
                    const float4 four = *reinterpret_cast<const float4*>(at);
                    value[t][i][0] = four.x, value[t][i][1] = four.y;
                    value[t][i][2] = four.z, value[t][i][3] = four.w;
                } else {
                    value[t][i][0] = *at;
                }
            }
        }
    }

    // weights [TOKENS][weight_pitch]
    __device__ __forceinline__ void add(const float* weights, int weight_pitch, int first,
                                        int stride, const int* count,
                                        float (&sum)[TOKENS][WIDE]) const {
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
#pragma unroll
            for (int i = 0; i < kEach; ++i) {
                const int split = first + i * stride;
                const float factor = split < count[t] ? weights[t * weight_pitch + split] : 0.0f;
#pragma unroll
                for (int w = 0; w < WIDE; ++w) sum[t][w] += factor * value[t][i][w];
            }
        }
    }
};

}  // namespace hybrid
