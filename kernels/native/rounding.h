// Rounding a row of activations to eight bits.
#pragma once

#include "activations.h"
#include "lanes.h"

namespace hybrid::HYBRID_TIER {

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

// Rows of whole 32s; what a run has beyond them is zeros.
inline void round_32(const float* x, std::size_t columns, RunOf32s* out) {
    for (std::size_t first = 0; first < columns; first += kRun, ++out) {
        for (std::size_t k = 0; k < 8; ++k) {
            const std::size_t at = first + 32 * k;
            std::int8_t* number = out->number + 32 * k;
            if (at >= columns) {
                std::memset(number, 0, 32);
                out->scale[k] = out->sum[k] = 0;
                continue;
            }
            const float scale = largest_of(x + at, 32) / 127.0f;
            const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
            const int sum =
                round_16(x + at, inverse, number) + round_16(x + at + 16, inverse, number + 16);
            out->scale[k] = scale;
            out->sum[k] = scale * static_cast<float>(sum);
        }
    }
}

inline void round_256(const float* x, std::size_t columns, RunOf256* out) {
    for (std::size_t first = 0; first < columns; first += kRun, ++out) {
        const float scale = largest_of(x + first, kRun) / 127.0f;
        const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
        for (std::size_t k = 0; k < 16; ++k) {
            const int sum = round_16(x + first + 16 * k, inverse, out->number + 16 * k);
            out->sum[k] = static_cast<std::int16_t>(sum);
        }
        out->scale = scale;
    }
}

}  // namespace hybrid::HYBRID_TIER
