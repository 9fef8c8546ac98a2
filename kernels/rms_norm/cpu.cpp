#include "floats_border.h"
#include "tier.h"

void hybrid_rms_norm(std::int32_t tier, const float* x, const float* weight, std::size_t rows,
                     std::size_t width, float epsilon, float* out) {
    const auto norm = hybrid::functions_of(tier)->floats.rms_norm;
    for (std::size_t r = 0; r < rows; ++r) {
        norm(x + r * width, weight, width, epsilon, out + r * width);
    }
}

void hybrid_add_rms_norm(std::int32_t tier, float* x, const float* added, const float* weight,
                         std::size_t rows, std::size_t width, float epsilon, float* out) {
    const auto norm = hybrid::functions_of(tier)->floats.add_rms_norm;
    for (std::size_t r = 0; r < rows; ++r) {
        norm(x + r * width, added + r * width, weight, width, epsilon, out + r * width);
    }
}
