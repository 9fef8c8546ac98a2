#include "library.h"

#include <cstring>

#include "formats.h"

namespace hybrid {

std::int8_t iq2_xxs_codebook[256][8];
std::int8_t iq2_xs_codebook[512][8];
std::int8_t iq2_s_codebook[1024][8];
std::int8_t iq3_xxs_codebook[256][4];
std::int8_t iq3_s_codebook[512][4];
std::int8_t iq1_codebook[2048][8];

namespace {

template <class Codebook>
std::int32_t fill(Codebook& codebook, const std::int8_t* values, std::size_t bytes) {
    if (bytes != sizeof codebook) return 0;
    std::memcpy(codebook, values, bytes);
    return 1;
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_abi_version() {
    return 2;
}

std::int32_t hybrid_block_weights(std::int32_t format) {
    std::int32_t weights = 0;
    hybrid::with_format(format, [&](auto chosen) { weights = decltype(chosen)::Type::kWeights; });
    return weights;
}

std::int32_t hybrid_block_bytes(std::int32_t format) {
    std::int32_t bytes = 0;
    hybrid::with_format(format,
                        [&](auto chosen) { bytes = sizeof(typename decltype(chosen)::Type); });
    return bytes;
}

std::int32_t hybrid_set_codebook(std::int32_t format, const std::int8_t* values,
                                 std::size_t bytes) {
    switch (format) {
        case hybrid::IQ2_XXS::kId:
            return hybrid::fill(hybrid::iq2_xxs_codebook, values, bytes);
        case hybrid::IQ2_XS::kId:
            return hybrid::fill(hybrid::iq2_xs_codebook, values, bytes);
        case hybrid::IQ2_S::kId:
            return hybrid::fill(hybrid::iq2_s_codebook, values, bytes);
        case hybrid::IQ3_XXS::kId:
            return hybrid::fill(hybrid::iq3_xxs_codebook, values, bytes);
        case hybrid::IQ3_S::kId:
            return hybrid::fill(hybrid::iq3_s_codebook, values, bytes);
        case hybrid::IQ1_S::kId:
        case hybrid::IQ1_M::kId:
            return hybrid::fill(hybrid::iq1_codebook, values, bytes);
        default:
            return 0;
    }
}
