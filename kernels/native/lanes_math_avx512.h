// `lanes_math.h` for the avx512 tiers.
#pragma once

#include <immintrin.h>

namespace hybrid::HYBRID_TIER {

inline Lanes subtract(Lanes a, Lanes b) {
    return _mm512_sub_ps(a, b);
}

inline Lanes divide(Lanes a, Lanes b) {
    return _mm512_div_ps(a, b);
}

// `b` where either is NaN, as `larger`.
inline Lanes smaller(Lanes a, Lanes b) {
    return _mm512_min_ps(a, b);
}

inline __mmask16 first_lanes(std::size_t count) {
    return static_cast<__mmask16>((1u << count) - 1u);
}

// `count` <= kLanes floats, then zeros; no memory beyond is touched.
inline Lanes load_first(const float* values, std::size_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), values);
}

inline void store_first(Lanes lanes, float* out, std::size_t count) {
    _mm512_mask_storeu_ps(out, first_lanes(count), lanes);
}

// p · 2^n for whole n that leave it a normal number.
inline Lanes times_power_of_two(Lanes p, Lanes n) {
    return _mm512_scalef_ps(p, n);
}

inline Lanes load_f16(const void* halves) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(halves)));
}

inline void store_f16(Lanes lanes, void* out) {
    const __m256i halves = _mm512_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(static_cast<__m256i*>(out), halves);
}

inline Lanes load_bf16(const void* words) {
    const __m512i wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(words)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline Lanes load_int8(const void* bytes) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(bytes))));
}

// Values 0 .. kLanes / 2 - 1, each twice.
inline Lanes load_twice(const float* values) {
    const __m512i index = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(values)));
}

// a · b - c in even lanes, a · b + c in odd ones.
inline Lanes fma_in_turn(Lanes a, Lanes b, Lanes c) {
    return _mm512_fmaddsub_ps(a, b, c);
}

// Each lane's neighbour in its pair.
inline Lanes swap_pairs(Lanes a) {
    return _mm512_permute_ps(a, 0xB1);
}

// Lane i: the sum of a's, then of b's two halves' neighbours.
inline __m512 sums_of_two(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

inline __m512 sums_of_four(__m512 ab, __m512 cd) {
    const __m512d first = _mm512_castps_pd(ab), last = _mm512_castps_pd(cd);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(first, last)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(first, last)));
}

inline __m512 sums_of_quarters(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

// Lane i: the total of register i.
inline Lanes totals(const Lanes (&all)[kLanes]) {
    Lanes four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        four[i] = sums_of_four(sums_of_two(all[4 * i], all[4 * i + 1]),
                               sums_of_two(all[4 * i + 2], all[4 * i + 3]));
    }
    return sums_of_quarters(sums_of_quarters(four[0], four[1]), sums_of_quarters(four[2], four[3]));
}

// all[i][j] becomes all[j][i].
inline void transpose(Lanes (&all)[kLanes]) {
    Lanes t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {  // 4 x 4 inside each quarter of four rows
        const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(all[i], all[i + 1]));
        const __m512d ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(all[i], all[i + 1]));
        const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(all[i + 2], all[i + 3]));
        const __m512d cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(all[i + 2], all[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab0, cd0));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab0, cd0));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab1, cd1));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab1, cd1));
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {  // quarters change places
        const __m512 low0 = _mm512_shuffle_f32x4(t[j], t[j + 4], 0x88);
        const __m512 low1 = _mm512_shuffle_f32x4(t[j + 8], t[j + 12], 0x88);
        const __m512 high0 = _mm512_shuffle_f32x4(t[j], t[j + 4], 0xDD);
        const __m512 high1 = _mm512_shuffle_f32x4(t[j + 8], t[j + 12], 0xDD);
        all[j] = _mm512_shuffle_f32x4(low0, low1, 0x88);
        all[j + 4] = _mm512_shuffle_f32x4(high0, high1, 0x88);
        all[j + 8] = _mm512_shuffle_f32x4(low0, low1, 0xDD);
        all[j + 12] = _mm512_shuffle_f32x4(high0, high1, 0xDD);
    }
}

}  // namespace hybrid::HYBRID_TIER
