// round_into of activations.h for a single token, as fast as one block can: the norm's weights come
// before x does, and most of x is read once.
#pragma once

#include "planar/activations.h"

namespace hybrid {

// The norm's weights of the first values that each thread rounds: on their way before x is there.
struct NormAhead {
    static constexpr int kFours = 2;
    float4 times[kFours];

    __device__ __forceinline__ void load(const float* weight, int columns) {
        if (weight == nullptr) return;
        const int step = static_cast<int>(blockDim.x), fours = columns / 4;
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const int at = min(static_cast<int>(threadIdx.x) + i * step, fours - 1);
            const uint4 words = load16(weight + 4 * at);
            times[i] = make_float4(bits_float(words.x), bits_float(words.y), bits_float(words.z),
                                   bits_float(words.w));
        }
        for (int at = static_cast<int>(threadIdx.x) + kFours * step; at < fours; at += step)
            if (at % 8 == 0) prefetch_line(weight + 4 * at);
    }
};

DEVICE float squares(const float4& x) {
    return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
}

DEVICE float4 scaled(const float4& x, const float4& times, float factor) {
    return make_float4(x.x * factor * times.x, x.y * factor * times.y, x.z * factor * times.z,
                       x.w * factor * times.w);
}

// round_into for one token, which reads most of x once. `ahead` was loaded with the same weight.
DEVICE void round_one(void* shared, const float* x, int columns, const float* weight, float epsilon,
                      const NormAhead& ahead) {
    constexpr int kFours = NormAhead::kFours;
    const int thread = threadIdx.x, step = static_cast<int>(blockDim.x), fours = columns / 4;
    const float4* row = reinterpret_cast<const float4*>(x);
    float4 held[kFours];
#pragma unroll
    for (int i = 0; i < kFours; ++i) held[i] = row[min(thread + i * step, fours - 1)];
    float factor = 1.0f;
    if (weight != nullptr) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kFours; ++i) sum += thread + i * step < fours ? squares(held[i]) : 0.0f;
        for (int at = thread + kFours * step; at < fours; at += step) sum += squares(row[at]);
        factor = rsqrtf(block_sum(sum) / static_cast<float>(columns) + epsilon);
    }
    // Eights past the last group round it once more, each lane its own four of it.
    const Rounded out(shared, columns, 0);
    const int last = fours - 8 + thread % 8;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
        if (i * step >= fours) break;
        const bool inside = thread + i * step < fours;
        const int at = inside ? thread + i * step : last;
        float4 four = inside ? held[i] : row[at];
        if (weight != nullptr) {
            const float4 times =
                inside ? ahead.times[i] : reinterpret_cast<const float4*>(weight)[at];
            four = scaled(four, times, factor);
        }
        round_group(out, at / 8, four);
    }
#pragma unroll 2
    for (int first = kFours * step; first < fours; first += step) {
        const int at = first + thread < fours ? first + thread : last;
        float4 four = row[at];
        if (weight != nullptr)
            four = scaled(four, reinterpret_cast<const float4*>(weight)[at], factor);
        round_group(out, at / 8, four);
    }
    __syncthreads();
}

}  // namespace hybrid
