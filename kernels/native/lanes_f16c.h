// What AVX2 and AVX-512 tiers share: eight floats, halves by F16C, sixteen scales in one register.
#pragma once

#include <immintrin.h>

#include "scalar.h"

namespace hybrid::HYBRID_TIER {

inline float half_number(const Half& half) {
    return _cvtsh_ss(static_cast<unsigned short>(half.value()));
}

// The halves at the same place in eight blocks, `stride` bytes apart.
inline Floats8 eight_halves(const void* first, std::size_t stride) {
    const auto* bytes = static_cast<const std::uint8_t*>(first);
    std::uint16_t half[8];
    for (int i = 0; i < 8; ++i) std::memcpy(half + i, bytes + stride * i, 2);
    const __m128i lanes = _mm_set_epi16(static_cast<short>(half[7]), static_cast<short>(half[6]),
                                        static_cast<short>(half[5]), static_cast<short>(half[4]),
                                        static_cast<short>(half[3]), static_cast<short>(half[2]),
                                        static_cast<short>(half[1]), static_cast<short>(half[0]));
    return _mm256_cvtph_ps(lanes);
}

// Sixteen signed bytes in memory, widened.
inline Scales scales_of_bytes(const void* bytes_16) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(bytes_16)));
}

// Bytes of `first`, then of `last`.
inline Scales scales_of(std::uint64_t first, std::uint64_t last) {
    return _mm256_cvtepi8_epi16(
        _mm_set_epi64x(static_cast<long long>(last), static_cast<long long>(first)));
}

// Byte 0 of `even`, byte 0 of `odd`, byte 1 of `even` and so on.
inline Scales scales_in_turn(std::uint64_t even, std::uint64_t odd) {
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_cvtsi64_si128(static_cast<long long>(even)),
                                                  _mm_cvtsi64_si128(static_cast<long long>(odd))));
}

inline Scales scales_of_ones() {
    return _mm256_set1_epi16(1);
}

inline Floats8 load8(const float* values) {
    return _mm256_loadu_ps(values);
}

inline Floats8 all8(float value) {
    return _mm256_set1_ps(value);
}

inline Floats8 multiply8(Floats8 a, Floats8 b) {
    return _mm256_mul_ps(a, b);
}

inline Floats8 add8(Floats8 a, Floats8 b) {
    return _mm256_add_ps(a, b);
}

inline Floats8 fma8(Floats8 a, Floats8 b, Floats8 c) {
    return _mm256_fmadd_ps(a, b, c);
}

inline void store8(Floats8 values, float* out) {
    _mm256_storeu_ps(out, values);
}

inline float total8(Floats8 values) {
    const __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// factor * sum of scale * sum of 16 activations, eight partial sums added to `row`.
inline Floats8 add_scaled_sums(Floats8 row, Scales scales, const std::int16_t* sums_16,
                               float factor) {
    const __m256i sums = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums_16));
    const __m256 products = _mm256_cvtepi32_ps(_mm256_madd_epi16(scales, sums));
    return _mm256_fmadd_ps(products, _mm256_set1_ps(factor), row);
}

}  // namespace hybrid::HYBRID_TIER
