#include <cmath>

#include "../rope/rope.h"
#include "floats_border.h"
#include "tier.h"

namespace hybrid {

void rope_table(const double* frequency, std::size_t pairs, const std::int64_t* positions,
                std::size_t tokens, double amplitude, float* cos, float* sin) {
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < pairs; ++i) {
            const double angle = static_cast<double>(positions[t]) * frequency[i];
            cos[t * pairs + i] = static_cast<float>(amplitude * std::cos(angle));
            sin[t * pairs + i] = static_cast<float>(amplitude * std::sin(angle));
        }
    }
}

}  // namespace hybrid

void hybrid_rope_table(const double* frequency, std::size_t pairs, const std::int64_t* positions,
                       std::size_t tokens, double amplitude, float* cos, float* sin) {
    hybrid::rope_table(frequency, pairs, positions, tokens, amplitude, cos, sin);
}

void hybrid_rotate(std::int32_t tier, float* x, std::size_t tokens, std::size_t heads,
                   std::size_t length, const float* cos, const float* sin) {
    const auto rotate = hybrid::functions_of(tier)->floats.rotate;
    for (std::size_t t = 0; t < tokens; ++t) {
        rotate(x + t * heads * length, heads, length, length, cos + t * length / 2,
               sin + t * length / 2);
    }
}
