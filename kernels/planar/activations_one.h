// round_into of activations.h for a single token, as fast as one block can: the norm's weights come
// before x does, and most of x is read once.
#pragma once

#include "planar/activations.h"

namespace hybrid {

// Which four of x a thread rounds in its turn. Eights of lanes behind the last group round it once
// more, each lane its own four of it. Rows of fewer than 32 are loaded but not rounded.
DEVICE int four_of(int first, int fours) {
    const int at = first + static_cast<int>(threadIdx.x);
    return at < fours ? at : max(fours - 8 + static_cast<int>(threadIdx.x) % 8, 0);
}

// The first values that each thread rounds, and the norm's weights of them, which are on their way
// before x is there.
template <int kCount>
struct RowAheadOf {
    static constexpr int kFours = kCount;
    float4 times[kFours], x[kFours];

    __device__ __forceinline__ void load_norm(const float* weight, int columns) {
        if (weight == nullptr) return;
        const int step = static_cast<int>(blockDim.x), fours = columns / 4;
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const uint4 words = load16(weight + 4 * four_of(i * step, fours));
            times[i] = make_float4(bits_float(words.x), bits_float(words.y), bits_float(words.z),
                                   bits_float(words.w));
        }
        for (int at = static_cast<int>(threadIdx.x) + kFours * step; at < fours; at += step)
            if (at % 8 == 0) prefetch_line(weight + 4 * at);
    }
    __device__ __forceinline__ void load_x(const float* row, int columns) {
        const int step = static_cast<int>(blockDim.x), fours = columns / 4;
#pragma unroll
        for (int i = 0; i < kFours; ++i)
            x[i] = reinterpret_cast<const float4*>(row)[four_of(i * step, fours)];
    }
};

using RowAhead = RowAheadOf<4>;

DEVICE float squares(const float4& x) {
    return x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
}

DEVICE float4 scaled(const float4& x, const float4& times, float factor) {
    return make_float4(x.x * factor * times.x, x.y * factor * times.y, x.z * factor * times.z,
                       x.w * factor * times.w);
}

// Several of a thread's fours together, without a branch between them, so that none waits for the
// shuffles of another.
template <int kFours>
DEVICE void round_fours(const Rounded& out, const float4 (&x)[kFours], int first, int fours) {
    constexpr int kPairs = kFours / 2;
    const int step = static_cast<int>(blockDim.x);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
        const int begin = first + 2 * pair * step;
        if (begin >= fours) break;
        round_group(out, four_of(begin, fours) / 8, x[2 * pair]);
        round_group(out, four_of(begin + step, fours) / 8, x[2 * pair + 1]);
    }
}

// round_into for one token, which reads most of x once. `ahead` was loaded with the same norm and
// x.
template <int kFours>
DEVICE void round_one(void* shared, const float* x, int columns, const float* weight, float epsilon,
                      RowAheadOf<kFours>& ahead, int at_once = 1) {
    const int thread = threadIdx.x, step = static_cast<int>(blockDim.x), fours = columns / 4;
    const float4* row = reinterpret_cast<const float4*>(x);
    const Rounded out(shared, columns, 0, at_once);
    float4(&held)[kFours] = ahead.x;
    float factor = 1.0f;
    if (weight != nullptr) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kFours; ++i) sum += thread + i * step < fours ? squares(held[i]) : 0.0f;
        for (int at = thread + kFours * step; at < fours; at += step) sum += squares(row[at]);
        factor = rsqrtf(block_sum(sum) / static_cast<float>(columns) + epsilon);
#pragma unroll
        for (int i = 0; i < kFours; ++i) held[i] = scaled(held[i], ahead.times[i], factor);
    }
    round_fours(out, held, 0, fours);
#pragma unroll 1
    for (int first = kFours * step; first < fours; first += kFours * step) {
#pragma unroll
        for (int i = 0; i < kFours; ++i) {
            const int at = four_of(first + i * step, fours);
            held[i] = row[at];
            if (weight != nullptr)
                held[i] = scaled(held[i], reinterpret_cast<const float4*>(weight)[at], factor);
        }
        round_fours(out, held, first, fours);
    }
    __syncthreads();
}

}  // namespace hybrid
