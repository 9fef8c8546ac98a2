// AVX2 tier: floats.
#pragma once

#include <immintrin.h>

#include "lanes_f16c.h"

namespace hybrid::HYBRID_TIER {

inline Lanes no_lanes() {
    return _mm256_setzero_ps();
}

inline Lanes all_lanes(float value) {
    return _mm256_set1_ps(value);
}

inline Lanes load(const float* values) {
    return _mm256_loadu_ps(values);
}

inline void store(Lanes lanes, float* out) {
    _mm256_storeu_ps(out, lanes);
}

inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return _mm256_fmadd_ps(a, b, c);
}

inline Lanes add(Lanes a, Lanes b) {
    return _mm256_add_ps(a, b);
}

inline Lanes multiply(Lanes a, Lanes b) {
    return _mm256_mul_ps(a, b);
}

inline Lanes larger(Lanes a, Lanes b) {
    return _mm256_max_ps(a, b);
}

inline __m128i eight_rounded(const float* values, float factor) {
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(load(values), all_lanes(factor)));
    return _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

// Sixteen floats times `factor`, rounded to the nearest integers, ties to even, that fit a byte;
// returns their sum.
inline int round_16(const float* values, float factor, std::int8_t* out) {
    const __m128i first = eight_rounded(values, factor), last = eight_rounded(values + 8, factor);
    return store_and_sum(_mm_packs_epi16(first, last), out);
}

inline RowSums no_row_sums() {
    return _mm256_setzero_ps();
}

inline RowSums add_times(RowSums row, Sums sums, float factor) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(factor), row);
}

// Eight floats, to be taken one at a time: from memory, where a load repeats one for nothing.
struct Factors {
    alignas(32) float value[8];
};

inline Factors factors_of(Floats8 values) {
    Factors factors;
    _mm256_store_ps(factors.value, values);
    return factors;
}

inline RowSums add_rows(RowSums a, RowSums b) {
    return _mm256_add_ps(a, b);
}

inline RowSums with_floats(RowSums row, Floats8 values) {
    return _mm256_add_ps(row, values);
}

// The products of two blocks, by factors 2 pair and 2 pair + 1.
inline RowSums add_times_pair(RowSums row, Words products, const Factors& factors, int pair) {
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256 first = _mm256_cvtepi32_ps(_mm256_madd_epi16(products.first, ones));
    const __m256 last = _mm256_cvtepi32_ps(_mm256_madd_epi16(products.last, ones));
    const float* factor = factors.value + 2 * pair;
    return _mm256_fmadd_ps(last, _mm256_broadcast_ss(factor + 1),
                           _mm256_fmadd_ps(first, _mm256_broadcast_ss(factor), row));
}

inline float total(Lanes lanes) {
    return total8(lanes);
}

inline float largest(Lanes lanes) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace hybrid::HYBRID_TIER
