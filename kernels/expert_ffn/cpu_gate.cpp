#include "floats_border.h"
#include "tier.h"

void hybrid_silu_times(std::int32_t tier, const float* gate, const float* up, std::size_t count,
                       float* out) {
    hybrid::functions_of(tier)->floats.silu_times(gate, up, count, out);
}

void hybrid_add_scaled(std::int32_t tier, float* sum, const float* x, float factor,
                       std::size_t count) {
    hybrid::functions_of(tier)->floats.add_scaled(sum, x, factor, count);
}
