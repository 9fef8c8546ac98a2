// A row times float32 activations: decoded 256 weights at a time into a buffer that stays in the L1
// cache, multiplied there with every token. Each 256 products are summed apart, so that errors grow
// with columns / 256.
#pragma once

#include "formats.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

// Four registers of partial sums: enough additions in flight to hide their latency.
inline float dot(const float* weights, const float* x, std::size_t count) {
    Lanes sums[4] = {no_lanes(), no_lanes(), no_lanes(), no_lanes()};
    std::size_t c = 0;
    for (; c + 4 * kLanes <= count; c += 4 * kLanes) {
        for (int part = 0; part < 4; ++part) {
            const std::size_t at = c + static_cast<std::size_t>(part * kLanes);
            sums[part] = fma(load(weights + at), load(x + at), sums[part]);
        }
    }
    for (; c + kLanes <= count; c += kLanes) sums[0] = fma(load(weights + c), load(x + c), sums[0]);
    float sum = total(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
    for (; c < count; ++c) sum += weights[c] * x[c];  // plain floats alone have such a rest
    return sum;
}

// Plain floats need no decoding.
inline void dot_floats(const Rows& rows, std::size_t begin, std::size_t end, const float* x,
                       std::size_t x_stride, int tokens, const Outputs& y) {
    for (std::size_t r = begin; r < end; ++r) {
        const auto* row = reinterpret_cast<const float*>(rows.first + r * rows.stride_bytes);
        for (int t = 0; t < tokens; ++t) {
            float sum = 0;
            for (std::size_t c = 0; c < rows.columns; c += 256) {
                const std::size_t count = rows.columns - c < 256 ? rows.columns - c : 256;
                sum += dot(row + c, x + static_cast<std::size_t>(t) * x_stride + c, count);
            }
            y.first[static_cast<std::size_t>(t) * y.stride + r] = sum;
        }
    }
}

template <class Block>
void dot_exact(const Rows& rows, std::size_t begin, std::size_t end, const float* x,
               std::size_t x_stride, int tokens, const Outputs& y) {
    if constexpr (Block::kId == F32::kId) {
        if (reinterpret_cast<std::uintptr_t>(rows.first) % alignof(float) == 0) {
            return dot_floats(rows, begin, end, x, x_stride, tokens, y);
        }
    }
    constexpr std::size_t kChunk = 256;  // weights; whole blocks of every format
    alignas(64) float weights[kChunk];
    for (std::size_t r = begin; r < end; ++r) {
        const std::uint8_t* row = rows.first + r * rows.stride_bytes;
        float* out = y.first + r;
        for (int t = 0; t < tokens; ++t) out[t * y.stride] = 0;
        for (std::size_t c = 0; c < rows.columns; c += kChunk) {
            const std::size_t count = rows.columns - c < kChunk ? rows.columns - c : kChunk;
            decode_blocks<Block>(row + c / Block::kWeights * sizeof(Block), count, weights);
            for (int t = 0; t < tokens; ++t) {
                out[t * y.stride] += dot(weights, x + t * x_stride + c, count);
            }
        }
    }
}

}  // namespace hybrid::HYBRID_TIER
