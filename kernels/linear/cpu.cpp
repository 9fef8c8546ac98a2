// y = x Wᵀ: a row is decoded 256 weights at a time into a buffer that stays in the L1 cache, and
// every token's x is multiplied with it there. Each 256 products are summed apart, so that errors
// grow with columns / 256.

#include <algorithm>

#include "formats.h"
#include "library.h"

namespace hybrid {
namespace {

constexpr std::size_t kChunk = 256;  // weights; whole blocks of every format

typedef float Lanes __attribute__((vector_size(16)));  // four floats on any CPU, GCC and Clang

Lanes load(const float* values) {
    Lanes lanes;
    std::memcpy(&lanes, values, sizeof lanes);
    return lanes;
}

// Sixteen partial sums: enough additions in flight to hide their latency.
float dot(const float* weights, const float* x, std::size_t count) {
    Lanes sums[4] = {};
    std::size_t c = 0;
    for (; c + 16 <= count; c += 16) {
        for (int part = 0; part < 4; ++part) {
            sums[part] += load(weights + c + 4 * part) * load(x + c + 4 * part);
        }
    }
    const Lanes four = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    float sum = (four[0] + four[1]) + (four[2] + four[3]);
    for (; c < count; ++c) sum += weights[c] * x[c];  // plain floats alone have such a rest
    return sum;
}

template <class Block>
void row_times_tokens(const std::uint8_t* row, std::size_t columns, const float* x,
                      std::size_t x_stride, std::size_t tokens, float* y, std::size_t y_stride) {
    alignas(64) float weights[kChunk];
    for (std::size_t t = 0; t < tokens; ++t) y[t * y_stride] = 0;
    for (std::size_t c = 0; c < columns; c += kChunk) {
        const std::size_t count = std::min(kChunk, columns - c);
        decode_blocks<Block>(row + c / Block::kWeights * sizeof(Block), count, weights);
        for (std::size_t t = 0; t < tokens; ++t) {
            y[t * y_stride] += dot(weights, x + t * x_stride + c, count);
        }
    }
}

}  // namespace
}  // namespace hybrid

void hybrid_linear(std::int32_t format, const void* blocks, std::size_t row_stride_bytes,
                   std::size_t row_begin, std::size_t row_end, std::size_t columns, const float* x,
                   std::size_t x_stride, std::size_t tokens, float* y, std::size_t y_stride) {
    const auto* bytes = static_cast<const std::uint8_t*>(blocks);
    hybrid::with_format(format, [=](auto chosen) {
        using Block = typename decltype(chosen)::Type;
        for (std::size_t r = row_begin; r < row_end; ++r) {
            hybrid::row_times_tokens<Block>(bytes + r * row_stride_bytes, columns, x, x_stride,
                                            tokens, y + r, y_stride);
        }
    });
}
