// `lanes_math.h` for the avx2 tiers.
#pragma once

#include <immintrin.h>

namespace hybrid::HYBRID_TIER {

inline Lanes subtract(Lanes a, Lanes b) {
    return _mm256_sub_ps(a, b);
}

inline Lanes divide(Lanes a, Lanes b) {
    return _mm256_div_ps(a, b);
}

// `b` where either is NaN, as `larger`.
inline Lanes smaller(Lanes a, Lanes b) {
    return _mm256_min_ps(a, b);
}

inline __m256i first_lanes(std::size_t count) {
    const __m256i index = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
}

// `count` <= kLanes floats, then zeros; no memory beyond is touched.
inline Lanes load_first(const float* values, std::size_t count) {
    return _mm256_maskload_ps(values, first_lanes(count));
}

inline void store_first(Lanes lanes, float* out, std::size_t count) {
    _mm256_maskstore_ps(out, first_lanes(count), lanes);
}

// p · 2^n for whole n that leave it a normal number.
inline Lanes times_power_of_two(Lanes p, Lanes n) {
    const __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shift));
}

inline Lanes load_f16(const void* halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(halves)));
}

inline void store_f16(Lanes lanes, void* out) {
    const __m128i halves = _mm256_cvtps_ph(lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(static_cast<__m128i*>(out), halves);
}

inline Lanes load_bf16(const void* words) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(words)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

inline Lanes load_int8(const void* bytes) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(bytes))));
}

// Values 0 .. kLanes / 2 - 1, each twice.
inline Lanes load_twice(const float* values) {
    const __m256i index = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(values)), index);
}

// a · b - c in even lanes, a · b + c in odd ones.
inline Lanes fma_in_turn(Lanes a, Lanes b, Lanes c) {
    return _mm256_fmaddsub_ps(a, b, c);
}

// Each lane's neighbour in its pair.
inline Lanes swap_pairs(Lanes a) {
    return _mm256_permute_ps(a, 0xB1);
}

// Lane i: the total of register i.
inline Lanes totals(const Lanes (&all)[kLanes]) {
    const __m256 low =
        _mm256_hadd_ps(_mm256_hadd_ps(all[0], all[1]), _mm256_hadd_ps(all[2], all[3]));
    const __m256 high =
        _mm256_hadd_ps(_mm256_hadd_ps(all[4], all[5]), _mm256_hadd_ps(all[6], all[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                         _mm256_permute2f128_ps(low, high, 0x31));
}

// all[i][j] becomes all[j][i].
inline void transpose(Lanes (&all)[kLanes]) {
    Lanes t[8];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // 4 x 4 inside each half of four rows
        const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(all[i], all[i + 1]));
        const __m256d ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(all[i], all[i + 1]));
        const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(all[i + 2], all[i + 3]));
        const __m256d cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(all[i + 2], all[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1));
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {  // halves change places
        all[j] = _mm256_permute2f128_ps(t[j], t[j + 4], 0x20);
        all[j + 4] = _mm256_permute2f128_ps(t[j], t[j + 4], 0x31);
    }
}

}  // namespace hybrid::HYBRID_TIER
