// Rotation of adjacent pairs by angles whose cosines and sines are at hand.
#pragma once

#include "lanes_math.h"

namespace hybrid::HYBRID_TIER {

inline void rotate(float* x, std::size_t heads, std::size_t head_stride, std::size_t length,
                   const float* cos, const float* sin) {
    std::size_t i = 0;
    for (; i + kLanes <= length; i += kLanes) {
        const Lanes cosines = load_twice(cos + i / 2), sines = load_twice(sin + i / 2);
        for (std::size_t h = 0; h < heads; ++h) {
            float* pairs = x + h * head_stride + i;
            const Lanes here = load(pairs);
            store(fma_in_turn(here, cosines, multiply(swap_pairs(here), sines)), pairs);
        }
    }
    for (; i < length; i += 2) {
        const float c = cos[i / 2], s = sin[i / 2];
        for (std::size_t h = 0; h < heads; ++h) {
            float* pair = x + h * head_stride + i;
            const float even = pair[0], odd = pair[1];
            pair[0] = even * c - odd * s;
            pair[1] = even * s + odd * c;
        }
    }
}

}  // namespace hybrid::HYBRID_TIER
