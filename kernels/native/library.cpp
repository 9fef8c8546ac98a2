#include "library.h"

#include <cstring>

#include "codebooks.h"
#include "tier.h"

namespace hybrid {

std::int8_t iq2_xxs_codebook[256][8];
std::int8_t iq2_xs_codebook[512][8];
std::int8_t iq2_s_codebook[1024][8];
std::int8_t iq3_xxs_codebook[256][4];
std::int8_t iq3_s_codebook[512][4];
std::int8_t iq1_codebook[2048][8];
std::int8_t iq1_eighths[2048][8];

namespace {

template <class Codebook>
std::int32_t fill(Codebook& codebook, const std::int8_t* values, std::size_t bytes) {
    if (bytes != sizeof codebook) return 0;
    std::memcpy(codebook, values, bytes);
    return 1;
}

bool fill_eighths() {
    for (int entry = 0; entry < 2048; ++entry) {
        for (int j = 0; j < 8; ++j) {
            iq1_eighths[entry][j] = static_cast<std::int8_t>(8 * iq1_codebook[entry][j] + 8);
        }
    }
    return true;
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_abi_version() {
    return 7;
}

std::int32_t hybrid_has_tier(std::int32_t tier) {
    return hybrid::functions_of(tier) != nullptr;
}

std::int32_t hybrid_best_tier() {
    return static_cast<std::int32_t>(hybrid::functions_of(hybrid::kBestTier)->tier);
}

std::int32_t hybrid_block_weights(std::int32_t format) {
    const auto* found = hybrid::format_of(hybrid::scalar_functions, format);
    return found ? found->weights : 0;
}

std::int32_t hybrid_block_bytes(std::int32_t format) {
    const auto* found = hybrid::format_of(hybrid::scalar_functions, format);
    return found ? found->bytes : 0;
}

std::int32_t hybrid_set_codebook(std::int32_t format, const std::int8_t* values,
                                 std::size_t bytes) {
    switch (format) {
        case hybrid::kIq2Xxs:
            return hybrid::fill(hybrid::iq2_xxs_codebook, values, bytes);
        case hybrid::kIq2Xs:
            return hybrid::fill(hybrid::iq2_xs_codebook, values, bytes);
        case hybrid::kIq2S:
            return hybrid::fill(hybrid::iq2_s_codebook, values, bytes);
        case hybrid::kIq3Xxs:
            return hybrid::fill(hybrid::iq3_xxs_codebook, values, bytes);
        case hybrid::kIq3S:
            return hybrid::fill(hybrid::iq3_s_codebook, values, bytes);
        case hybrid::kIq1S:
        case hybrid::kIq1M:
            return hybrid::fill(hybrid::iq1_codebook, values, bytes) && hybrid::fill_eighths();
        default:
            return 0;
    }
}

void hybrid_round(std::int32_t tier, std::int32_t format, const float* x, std::size_t x_stride,
                  std::size_t columns, std::size_t tokens, void* runs) {
    const auto& functions = *hybrid::functions_of(tier);
    const bool of_256 = hybrid::format_of(functions, format)->rounding == hybrid::Rounding::of_256;
    const std::size_t row_runs = hybrid::runs_of(columns);
    for (std::size_t t = 0; t < tokens; ++t, x += x_stride) {
        if (of_256) {
            functions.round_256(x, columns, static_cast<hybrid::RunOf256*>(runs) + t * row_runs);
        } else {
            functions.round_32(x, columns, static_cast<hybrid::RunOf32s*>(runs) + t * row_runs);
        }
    }
}

void hybrid_dot_rounded(std::int32_t tier, std::int32_t format, const void* blocks,
                        std::size_t row_stride_bytes, std::size_t row_begin, std::size_t row_end,
                        std::size_t columns, const void* runs, std::size_t tokens, float* y,
                        std::size_t y_stride) {
    const hybrid::Rows rows{static_cast<const std::uint8_t*>(blocks), row_stride_bytes, columns};
    hybrid::format_of(*hybrid::functions_of(tier), format)
        ->dot_rounded(rows, row_begin, row_end, runs, static_cast<int>(tokens), {y, y_stride});
}
