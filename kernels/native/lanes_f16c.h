// What AVX2 and AVX-512 tiers share: eight floats, halves by F16C, sixteen scales in one register.
#pragma once

#include <immintrin.h>

#include "scalar.h"

namespace hybrid::HYBRID_TIER {

inline float half_number(const Half& half) {
    return _cvtsh_ss(static_cast<unsigned short>(half.value()));
}

// Two halves that follow one another.
inline FactorPair half_pair(const Half* two) {
    std::int32_t bits;
    std::memcpy(&bits, two, 4);
    const __m128 floats = _mm_cvtph_ps(_mm_cvtsi32_si128(bits));
    return {_mm_cvtss_f32(floats), _mm_cvtss_f32(_mm_movehdup_ps(floats))};
}

// The halves at the same place in eight blocks, kStride bytes apart.
template <int kStride>
inline Floats8 eight_halves(const void* first) {
    return _mm256_cvtph_ps(eight_words<kStride>(first));
}

// 2^(byte - 128) of the byte at the same place in eight blocks; the two smallest are subnormal.
template <int kStride>
inline Floats8 eight_powers(const void* first) {
    const __m128i bytes = _mm_and_si128(eight_words<kStride>(first), _mm_set1_epi16(255));
    const __m256i exponent = _mm256_cvtepu16_epi32(bytes);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(exponent, _mm256_set1_epi32(1)), 23);
    const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), exponent);
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponent);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
}

// Bits of `bits`, lowest first, at the places that are set in `places`.
inline std::uint64_t deposit(std::uint64_t bits, std::uint64_t places) {
    return _pdep_u64(bits, places);
}

// The bits of `bits` at the places that are set in `places`, lowest first.
inline std::uint64_t collect(std::uint64_t bits, std::uint64_t places) {
    return _pext_u64(bits, places);
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

// Of each 32 weights one byte of `bytes`.
inline Scales scales_of_32s(std::uint64_t bytes) {
    const __m128i eight = _mm_cvtsi64_si128(static_cast<long long>(bytes));
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(eight, eight));
}

// Of sixteen bytes in memory the low nibbles, or the high ones.
inline Scales scales_of_nibbles(const void* bytes_16, int shift) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(bytes_16));
    return _mm256_cvtepi8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, shift), _mm_set1_epi8(15)));
}

// Sixteen scales of six bits, less 32, from the twelve bytes of Q3_K.
inline Scales sixteen_six_bit_scales(const void* bytes_12) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_12);
    std::int32_t last;
    std::memcpy(&last, bytes + 8, 4);
    const __m128i eight = _mm_loadl_epi64(static_cast<const __m128i*>(bytes_12));
    const __m128i low =
        _mm_and_si128(_mm_unpacklo_epi64(eight, _mm_srli_epi16(eight, 4)), _mm_set1_epi8(15));
    const __m128i tops =
        _mm_slli_epi32(_mm_srlv_epi32(_mm_set1_epi32(last), _mm_set_epi32(6, 4, 2, 0)), 4);
    const __m128i all = _mm_or_si128(low, _mm_and_si128(tops, _mm_set1_epi8(0x30)));
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(all, _mm_set1_epi8(32)));
}

// The top nibbles of eight 32-bit words, kStride bytes apart: 4, or 8 with four bytes before each.
// A nibble n is the scale 2 n + 1 of 32 weights.
template <int kStride>
inline Scales odd_top_nibbles(const void* first) {
    const auto* bytes = static_cast<const std::uint8_t*>(first);
    __m256i words;
    if constexpr (kStride == 4) {
        words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    } else {
        const __m256 low = _mm256_loadu_ps(reinterpret_cast<const float*>(bytes - 4));
        const __m256 high = _mm256_loadu_ps(reinterpret_cast<const float*>(bytes + 28));
        words = _mm256_permute4x64_epi64(
            _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1))),
            _MM_SHUFFLE(3, 1, 2, 0));
    }
    const __m256i twice = _mm256_slli_epi32(_mm256_srli_epi32(words, 28), 1);
    return _mm256_add_epi16(_mm256_or_si256(twice, _mm256_slli_epi32(twice, 16)),
                            _mm256_set1_epi16(1));
}

// Sixteen signed bytes, stored; returns their sum.
inline int store_and_sum(__m128i bytes, std::int8_t* out) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
    const __m128i above_128 = _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(0x80)));
    const __m128i halves = _mm_sad_epu8(above_128, _mm_setzero_si128());
    return _mm_cvtsi128_si32(halves) + _mm_extract_epi16(halves, 4) - 16 * 128;
}

inline Scales scales_of_ones() {
    return _mm256_set1_epi16(1);
}

inline Scales products_of(Scales a, Scales b) {
    return _mm256_mullo_epi16(a, b);
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

// Value (i + first) % 8 at place i.
inline Floats8 rotated8(Floats8 values, int first) {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_permutevar8x32_ps(values, _mm256_add_epi32(lane, _mm256_set1_epi32(first)));
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
