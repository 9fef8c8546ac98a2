// What the split kernel of decode attention left for a token and head, and its sum over splits.
#pragma once

#include "cuda/device.h"

namespace hybrid {

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
        const int share = (tokens + cap - 1) / cap;
        const int per_split = max(min_tokens, (share + granule - 1) / granule * granule);
        return (tokens + per_split - 1) / per_split;
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

// WIDE neighbouring columns of every `stride`th split from `first` on, kBatch loads at a time.
template <int WIDE>
struct SplitColumns {
    static constexpr int kBatch = 8;
    float value[kBatch][WIDE];

    // `from` is the column of split 0.
    __device__ __forceinline__ void load(const float* from, int first, int stride, int count,
                                         int latent) {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            const int split = first + i * stride;
            if (split >= count) {
#pragma unroll
                for (float& v : value[i]) v = 0;
                continue;
            }
            const float* at = from + static_cast<int64_t>(split) * latent;
            if constexpr (WIDE == 4) {
                const float4 four = *reinterpret_cast<const float4*>(at);
                value[i][0] = four.x, value[i][1] = four.y;
                value[i][2] = four.z, value[i][3] = four.w;
            } else {
                value[i][0] = *at;
            }
        }
    }

    __device__ __forceinline__ void add(const float* weight, int first, int stride, int count,
                                        float (&sum)[WIDE]) const {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            const int split = first + i * stride;
            const float factor = split < count ? weight[split] : 0.0f;
#pragma unroll
            for (int w = 0; w < WIDE; ++w) sum[w] += factor * value[i][w];
        }
    }
};

}  // namespace hybrid
