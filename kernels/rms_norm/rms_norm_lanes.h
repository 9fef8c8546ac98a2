// Root-mean-square norm of one row.
#pragma once

#include "lanes_math.h"

namespace hybrid::HYBRID_TIER {

// Σ x², after x += added where `added` is not null.
inline float sum_of_squares(float* x, const float* added, std::size_t width) {
    Lanes sums[4] = {no_lanes(), no_lanes(), no_lanes(), no_lanes()};
    int part = 0;
    for (std::size_t i = 0; i < width; i += kLanes, part = (part + 1) % 4) {
        const std::size_t count = width - i;
        const bool full = count >= kLanes;
        Lanes here = full ? load(x + i) : load_first(x + i, count);
        if (added) {
            here = add(here, full ? load(added + i) : load_first(added + i, count));
            full ? store(here, x + i) : store_first(here, x + i, count);
        }
        sums[part] = fma(here, here, sums[part]);
    }
    return total(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

inline void scale_row(const float* x, const float* weight, std::size_t width, float factor,
                      float* out) {
    const Lanes factors = all_lanes(factor);
    std::size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
        store(multiply(multiply(load(x + i), factors), load(weight + i)), out + i);
    }
    if (i < width) {
        const std::size_t count = width - i;
        const Lanes weights = load_first(weight + i, count);
        store_first(multiply(multiply(load_first(x + i, count), factors), weights), out + i, count);
    }
}

inline float norm_factor(float squares, std::size_t width, float epsilon) {
    const double mean = static_cast<double>(squares) / static_cast<double>(width);
    return static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(epsilon)));
}

inline void add_rms_norm(float* x, const float* added, const float* weight, std::size_t width,
                         float epsilon, float* out) {
    const float squares = sum_of_squares(x, added, width);
    scale_row(x, weight, width, norm_factor(squares, width, epsilon), out);
}

inline void rms_norm(const float* x, const float* weight, std::size_t width, float epsilon,
                     float* out) {
    const float squares = sum_of_squares(const_cast<float*>(x), nullptr, width);  // only reads x
    scale_row(x, weight, width, norm_factor(squares, width, epsilon), out);
}

inline void add_scaled_row(float* sum, const float* x, float factor, std::size_t count) {
    const Lanes factors = all_lanes(factor);
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        store(fma(load(x + i), factors, load(sum + i)), sum + i);
    }
    if (i < count) {
        const Lanes here = load_first(x + i, count - i);
        store_first(fma(here, factors, load_first(sum + i, count - i)), sum + i, count - i);
    }
}

}  // namespace hybrid::HYBRID_TIER
