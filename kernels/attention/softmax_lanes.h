// The softmax of scores that come tile by tile: sums are kept relative to the largest score so far.
#pragma once

#include "lanes_math.h"

namespace hybrid::HYBRID_TIER {

// Queries of one tile; `kept` and `added` have room for whole registers.
struct Running {
    float* largest;  // [queries]
    float* sum;      // [queries]
    float* kept;     // [queries] what earlier sums are worth from now on
    float* added;    // [queries] this tile's weights
};

// Turns one query's scores of a tile into weights: `visible` of them, then zeros up to `padded`, a
// multiple of kLanes. Leaves the logarithm of `kept`.
inline void weigh(float* scores, std::size_t padded, std::size_t visible, const Running& running,
                  std::size_t query) {
    for (std::size_t i = visible; i < padded; ++i) scores[i] = kLowest;
    Lanes most = all_lanes(running.largest[query]);
    for (std::size_t i = 0; i < padded; i += kLanes) most = larger(most, load(scores + i));
    const float now = largest(most);
    const Lanes subtracted = all_lanes(now);
    Lanes sums = no_lanes();
    for (std::size_t i = 0; i < padded; i += kLanes) {
        const Lanes weights = exp(subtract(load(scores + i), subtracted));
        store(weights, scores + i);
        sums = add(sums, weights);
    }
    running.added[query] = total(sums);
    if (visible < padded) {
        float sum = 0;
        for (std::size_t i = 0; i < visible; ++i) sum += scores[i];
        for (std::size_t i = visible; i < padded; ++i) scores[i] = 0;
        running.added[query] = sum;
    }
    running.kept[query] = running.largest[query] - now;
    running.largest[query] = now;
}

// After weigh() of all `queries`: their sums, and what earlier values are to be multiplied by.
inline void add_weights(const Running& running, std::size_t queries) {
    for (std::size_t q = 0; q < queries; q += kLanes) {
        const std::size_t count = queries - q < kLanes ? queries - q : kLanes;
        const Lanes kept = exp(load_first(running.kept + q, count));
        store(kept, running.kept + q);
        const Lanes sums = load_first(running.sum + q, count);
        store_first(fma(sums, kept, load_first(running.added + q, count)), running.sum + q, count);
    }
}

inline void start_running(const Running& running, std::size_t queries) {
    for (std::size_t q = 0; q < queries; ++q) running.largest[q] = kLowest, running.sum[q] = 0;
}

}  // namespace hybrid::HYBRID_TIER
