// A slab of rows of 256-weight formats for the tile unit: number times scale, an integer of less
// than 15 bits, as 128 * high + low.
#pragma once

#include "gemm_weights.h"

namespace hybrid::HYBRID_TIER {

// A block of 256 columns of all rows of a slab.
struct alignas(64) SlabPlanes {
    std::int8_t high[kSlabRows][kRun], low[kSlabRows][kRun];
    std::int32_t minimum[kSlabRows][8];  // as in SlabRun256
    float factor[kSlabRows], minimum_factor[kSlabRows];
};

inline __m512i bytes_of(const Bytes& numbers) {
    return numbers;
}
inline __m512i bytes_of(const Signed& numbers) {
    return flip(numbers.magnitude, numbers.negative);
}

// 32 numbers, less their offset, times the two scales from `first` on.
template <class Block>
__m512i scaled_words(__m256i bytes, const Scales& scales, int first) {
    const __m512i number = kIsSigned<Block> ? _mm512_cvtepi8_epi16(bytes)
                                            : _mm512_sub_epi16(_mm512_cvtepu8_epi16(bytes),
                                                               _mm512_set1_epi16(Block::kOffset));
    const __m512i index =
        _mm512_add_epi16(_mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(1), 1),
                         _mm512_set1_epi16(static_cast<short>(first)));
    return _mm512_mullo_epi16(number,
                              _mm512_permutexvar_epi16(index, _mm512_castsi256_si512(scales)));
}

// 64 words as bytes; all fit.
inline __m512i narrowed(__m512i first, __m512i last) {
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0),
                                    _mm512_packs_epi16(first, last));
}

template <class Block>
void unpack_planes(const Block* block, int row, SlabPlanes& out) {
    const Scales scales = block->scale_numbers();
    const __m512i low_bits = _mm512_set1_epi16(127);
    for (int quarter = 0; quarter < 4; ++quarter) {
        const __m512i numbers = bytes_of(block->numbers(quarter));
        const __m512i first =
            scaled_words<Block>(_mm512_castsi512_si256(numbers), scales, 4 * quarter);
        const __m512i last =
            scaled_words<Block>(_mm512_extracti64x4_epi64(numbers, 1), scales, 4 * quarter + 2);
        store_bytes(narrowed(_mm512_srai_epi16(first, 7), _mm512_srai_epi16(last, 7)),
                    out.high[row] + 64 * quarter);
        store_bytes(narrowed(_mm512_and_si512(first, low_bits), _mm512_and_si512(last, low_bits)),
                    out.low[row] + 64 * quarter);
    }
    out.factor[row] = block->factor();
    if constexpr (requires_minimum<Block>(0)) {
        put_minimums(*block, out.minimum[row]);
        out.minimum_factor[row] = block->minimum_factor();
    }
}

}  // namespace hybrid::HYBRID_TIER
