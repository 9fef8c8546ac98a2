// AVX-512 tier: scales that are packed by bits.
#pragma once

#include <immintrin.h>

#include "lanes_f16c.h"

namespace hybrid::HYBRID_TIER {

// Eight scales and eight minima of six bits, a byte each, from the twelve bytes of Q4_K; four more
// bytes are read.
inline __m128i six_bit_pairs(const void* bytes_12) {
    const __m128i words = _mm_loadu_si128(static_cast<const __m128i*>(bytes_12));
    const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(words, _MM_SHUFFLE(2, 1, 2, 0)),
                                       _mm_set_epi32(4, 0, 0, 0));
    const __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(words, _MM_SHUFFLE(1, 1, 0, 0)), 2);
    const __m128i low_mask = _mm_set_epi32(0x0F0F0F0F, 0x3F3F3F3F, 0x0F0F0F0F, 0x3F3F3F3F);
    const __m128i high_mask = _mm_set_epi32(0x30303030, 0, 0x30303030, 0);
    return _mm_or_si128(_mm_and_si128(low, low_mask), _mm_and_si128(high, high_mask));
}

inline Scales six_bit_scales(const void* bytes_12) {
    const __m128i pairs = six_bit_pairs(bytes_12);
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(pairs, pairs));
}

inline Scales six_bit_minimums(const void* bytes_12) {
    const __m128i pairs = six_bit_pairs(bytes_12);
    return _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(pairs, pairs));
}

}  // namespace hybrid::HYBRID_TIER
