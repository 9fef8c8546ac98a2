// The gate of a feed-forward: silu(gate) · up.
#pragma once

#include "lanes_math.h"

namespace hybrid::HYBRID_TIER {

inline Lanes gated(Lanes gate, Lanes up) {
    const Lanes beside = exp(subtract(no_lanes(), gate));
    return multiply(divide(gate, add(all_lanes(1.0f), beside)), up);
}

inline void silu_times(const float* gate, const float* up, std::size_t count, float* out) {
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(gated(load(gate + i), load(up + i)), out + i);
    if (i < count) {
        const Lanes gates = load_first(gate + i, count - i), ups = load_first(up + i, count - i);
        store_first(gated(gates, ups), out + i, count - i);
    }
}

}  // namespace hybrid::HYBRID_TIER
