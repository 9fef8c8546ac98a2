// AVX-512 tier: floats.
#pragma once

#include <immintrin.h>

#include "lanes_f16c.h"

namespace hybrid::HYBRID_TIER {

inline Lanes no_lanes() {
    return _mm512_setzero_ps();
}

inline Lanes all_lanes(float value) {
    return _mm512_set1_ps(value);
}

inline Lanes load(const float* values) {
    return _mm512_loadu_ps(values);
}

inline void store(Lanes lanes, float* out) {
    _mm512_storeu_ps(out, lanes);
}

inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return _mm512_fmadd_ps(a, b, c);
}

inline Lanes add(Lanes a, Lanes b) {
    return _mm512_add_ps(a, b);
}

inline Lanes multiply(Lanes a, Lanes b) {
    return _mm512_mul_ps(a, b);
}

inline Lanes larger(Lanes a, Lanes b) {
    return _mm512_max_ps(a, b);
}

// Sixteen floats times `factor`, rounded to the nearest integers, ties to even, that fit a byte;
// returns their sum.
inline int round_16(const float* values, float factor, std::int8_t* out) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(load(values), all_lanes(factor)));
    return store_and_sum(_mm512_cvtepi32_epi8(rounded), out);
}

inline float total(Lanes lanes) {
    return _mm512_reduce_add_ps(lanes);
}

inline float largest(Lanes lanes) {
    return _mm512_reduce_max_ps(lanes);
}

// What row sums are gathered in: float lanes beside Sums.
using RowSums = __m512;

inline RowSums no_row_sums() {
    return _mm512_setzero_ps();
}

inline RowSums add_times(RowSums row, Sums sums, float factor) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(factor), row);
}

// Eight floats, to be taken two at a time.
using Factors = Floats8;

inline Factors factors_of(Floats8 values) {
    return values;
}

inline RowSums add_rows(RowSums a, RowSums b) {
    return _mm512_add_ps(a, b);
}

inline RowSums with_floats(RowSums row, Floats8 values) {
    return _mm512_add_ps(row, _mm512_zextps256_ps512(values));
}

// The sums of two blocks, the first eight lanes and the last, by factors 2 pair and 2 pair + 1.
inline RowSums add_times_pair(RowSums row, Sums sums, Factors factors, int pair) {
    const __m512i index = _mm512_set_epi64(0x0000000100000001, 0x0000000100000001,
                                           0x0000000100000001, 0x0000000100000001, 0, 0, 0, 0);
    const __m512i chosen = _mm512_add_epi32(index, _mm512_set1_epi32(2 * pair));
    const __m512 spread = _mm512_permutexvar_ps(chosen, _mm512_castps256_ps512(factors));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), spread, row);
}

}  // namespace hybrid::HYBRID_TIER
