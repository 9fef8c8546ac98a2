// Many tokens in tiers without a slab: activations are packed as runs, or copied as they are, and
// every row goes through its own dot product.
#pragma once

#include "exact_dot.h"
#include "gemm_tokens.h"
#include "row_dot.h"

namespace hybrid::HYBRID_TIER {

inline std::size_t no_scratch_bytes(std::size_t) {
    return 0;
}

inline std::size_t exact_packed_bytes(std::size_t columns, int tokens) {
    return columns * sizeof(float) * static_cast<std::size_t>(tokens);
}

inline void pack_exact(const Tokens& x, int tile_begin, int tile_end, void* packed) {
    for (int t = tile_begin * kTokenTile; t < last_token(x, tile_end); ++t) {
        std::memcpy(static_cast<float*>(packed) + static_cast<std::size_t>(t) * x.columns,
                    token(x, t), x.columns * sizeof(float));
    }
}

// A few rows at a time for all tokens, so that weights are read from memory once.
constexpr std::size_t kBand = 16;

inline std::size_t band_end(std::size_t r, std::size_t end) {
    return end - r < kBand ? end : r + kBand;
}

template <class Block>
void multiply_exact(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                    int tokens, void*, const Outputs& y) {
    const auto* x = static_cast<const float*>(packed);
    for (std::size_t r = begin; r < end; r += kBand) {
        dot_exact<Block>(rows, r, band_end(r, end), x, rows.columns, tokens, y);
    }
}

inline std::size_t rounded_packed_bytes(std::size_t columns, int tokens) {
    return runs_of(columns) * sizeof(RunOf32s) * static_cast<std::size_t>(tokens);
}

template <class Run>
void pack_rounded(const Tokens& x, int tile_begin, int tile_end, void* packed) {
    for (int t = tile_begin * kTokenTile; t < last_token(x, tile_end); ++t) {
        Run* runs = static_cast<Run*>(packed) + static_cast<std::size_t>(t) * runs_of(x.columns);
        round_token(token(x, t), x.columns, runs);
    }
}

template <class Block, class Run>
void multiply_rounded(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                      int tokens, void*, const Outputs& y) {
    dot_rounded<Block, Run>(rows, begin, end, packed, tokens, y);
}

}  // namespace hybrid::HYBRID_TIER
