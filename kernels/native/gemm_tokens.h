// The tokens of a product over many of them, and a token's rounding by the kind of its runs.
#pragma once

#include "rounding.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

inline const float* token(const Tokens& x, int t) {
    return x.first + static_cast<std::size_t>(x.index ? x.index[t] : t) * x.stride;
}

inline int last_token(const Tokens& x, int tile_end) {
    const int end = tile_end * kTokenTile;
    return end < x.count ? end : x.count;
}

inline void round_token(const float* x, std::size_t columns, RunOf32s* out) {
    round_32(x, columns, out);
}

inline void round_token(const float* x, std::size_t columns, RunOf256* out) {
    round_256(x, columns, out);
}

}  // namespace hybrid::HYBRID_TIER
