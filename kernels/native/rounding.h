// Rounding a row of activations to eight bits.
#pragma once

#include "activations.h"
#include "lanes.h"

namespace hybrid::HYBRID_TIER {

// The integer nearest to a float below 2^22 in size, ties to even, without a library call.
inline int nearest(float value) {
    std::int32_t bits;
    const float shifted = value + 12582912.0f;  // 1.5 * 2^23: the integer stands in the low bits
    std::memcpy(&bits, &shifted, 4);
    return (bits & 0x7FFFFF) - 0x400000;
}

inline float largest_of(const float* x, std::size_t count) {
    Lanes lanes = no_lanes();
    const std::size_t whole = count / kLanes * kLanes;
    for (std::size_t i = 0; i < whole; i += kLanes) {
        const Lanes here = load(x + i);
        lanes = larger(lanes, larger(here, multiply(here, all_lanes(-1))));
    }
    float most = largest(lanes);
    for (std::size_t i = whole; i < count; ++i) {
        const float size = x[i] < 0 ? -x[i] : x[i];
        most = most < size ? size : most;
    }
    return most;
}

inline void round_32(const float* x, std::size_t columns, RunOf32s* out) {
    for (std::size_t first = 0; first < columns; first += kRun, ++out) {
        const std::size_t here = columns - first < kRun ? columns - first : kRun;
        for (std::size_t k = 0; k < 8; ++k) {
            const float* part = x + first + 32 * k;
            const std::size_t count =
                32 * k >= here ? 0 : (here - 32 * k < 32 ? here - 32 * k : 32);
            const float scale = largest_of(part, count) / 127.0f;
            const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
            int sum = 0;
            std::int8_t* number = out->number + 32 * k;
            for (std::size_t i = 0; i < count; ++i) {
                const int n = nearest(part[i] * inverse);
                number[i] = static_cast<std::int8_t>(n);
                sum += n;
            }
            for (std::size_t i = count; i < 32; ++i) number[i] = 0;
            out->scale[k] = scale;
            out->sum[k] = scale * static_cast<float>(sum);
        }
    }
}

inline void round_256(const float* x, std::size_t columns, RunOf256* out) {
    for (std::size_t first = 0; first < columns; first += kRun, ++out) {
        const float scale = largest_of(x + first, kRun) / 127.0f;
        const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
        for (int k = 0; k < 16; ++k) {
            const float* part = x + first + 16 * k;
            int sum = 0;
            for (int i = 0; i < 16; ++i) {
                const int n = nearest(part[i] * inverse);
                out->number[16 * k + i] = static_cast<std::int8_t>(n);
                sum += n;
            }
            out->sum[k] = static_cast<std::int16_t>(sum);
        }
        out->scale = scale;
    }
}

}  // namespace hybrid::HYBRID_TIER
