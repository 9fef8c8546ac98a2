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
    const void* partial;  // [tokens, heads, cap, latent] of the kernel's Part: the splits' means
    const float* statistics;  // [tokens, heads, cap, 2]: high score in base 2, sum
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

// What a split's mean is stored as.
struct FloatPart {
    static constexpr int kBytes = 4;
    static __device__ __forceinline__ float value(const uint32_t* word, int i) {
        return bits_float(word[i]);
    }
};
struct HalfPart {
    static constexpr int kBytes = 2;
    static __device__ __forceinline__ float value(const uint32_t* word, int i) {
        return half_to_float(static_cast<uint16_t>(word[i / 2] >> i % 2 * 16));
    }
};
struct BfloatPart {
    static constexpr int kBytes = 2;
    static __device__ __forceinline__ float value(const uint32_t* word, int i) {
        return bits_float(i % 2 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
    }
};

// By one warp: weight[s] = 2^(high_s - max) sum_s; returns 1 / (sum of weights), 0 without splits.
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
        weight[s] = exp2f(weight[s] - most) * weight[results.cap + s];
        total += weight[s];
    }
    total = warp_sum(total);
    return total > 0 ? 1.0f / total : 0.0f;
}

// `nbytes` of memory, a multiple of as many, 16 at most; of 2 bytes the high half is zero.
template <int nbytes>
DEVICE void load_words(uint32_t* word, const unsigned char* from) {
    static_assert(nbytes == 2 || nbytes == 4 || nbytes == 8 || nbytes == 16, "a load's length");
    if constexpr (nbytes == 16) {
        const uint4 four = *reinterpret_cast<const uint4*>(from);
        word[0] = four.x, word[1] = four.y, word[2] = four.z, word[3] = four.w;
    } else if constexpr (nbytes == 8) {
        const uint2 two = *reinterpret_cast<const uint2*>(from);
        word[0] = two.x, word[1] = two.y;
    } else if constexpr (nbytes == 4) {
        word[0] = *reinterpret_cast<const uint32_t*>(from);
    } else {
        word[0] = *reinterpret_cast<const uint16_t*>(from);
    }
}

// WIDE neighbouring columns of a few splits of every token, all loads under way at once.
template <class Part, int TOKENS, int WIDE>
struct SplitColumns {
    static constexpr int kEach = 8 / TOKENS;  // splits of a token
    static constexpr int kBytes = WIDE * Part::kBytes;
    uint32_t word[TOKENS][kEach][(kBytes + 3) / 4];

    // Splits first, first + stride .. below count[t]; `from` is the column of token 0 in split 0,
    // the pitches are values.
    __device__ __forceinline__ void load(const unsigned char* from, int64_t token_pitch,
                                         int split_pitch, int first, int stride, const int* count) {
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
#pragma unroll
            for (int i = 0; i < kEach; ++i) {
                const int split = first + i * stride;
#pragma unroll
                for (uint32_t& w : word[t][i]) w = 0;
                if (split >= count[t]) continue;
                const int64_t at = t * token_pitch + static_cast<int64_t>(split) * split_pitch;
                load_words<kBytes>(word[t][i], from + at * Part::kBytes);
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
                for (int w = 0; w < WIDE; ++w) sum[t][w] += factor * Part::value(word[t][i], w);
            }
        }
    }
};

}  // namespace hybrid
