// A slab of rows for byte products: numbers as bytes, kBias too large to be unsigned, scales as
// floats. Weights are exact.
#pragma once

#include "gemm_slab.h"

namespace hybrid::HYBRID_TIER {

// Weights of 256 that share a scale.
template <class Block>
constexpr int kGroup = 32;
template <>
inline constexpr int kGroup<Q2_K> = 16;
template <>
inline constexpr int kGroup<Q3_K> = 16;
template <>
inline constexpr int kGroup<Q6_K> = 16;
template <>
inline constexpr int kGroup<IQ2_XS> = 16;
template <>
inline constexpr int kGroup<IQ2_S> = 16;
template <>
inline constexpr int kGroup<IQ1_M> = 16;

inline Bytes unsigned_bytes(Bytes numbers) {
    return numbers;
}

inline Bytes unsigned_bytes(const Signed& numbers) {
    return wide(flip(numbers.magnitude, numbers.negative));
}

// Whether a format's numbers() are signed ones: overloads that are asked, never called.
struct Yes {
    char size[2];
};
char signed_answer(const Bytes&);
Yes signed_answer(const Signed&);
template <class Block>
const Block& any_block();
template <class Block>
constexpr bool kIsSigned = sizeof(signed_answer(any_block<Block>().numbers(0))) == sizeof(Yes);

template <class Block>
constexpr int kBias = kIsSigned<Block> ? kWideOffset : Block::kOffset;

// A run of 256 columns of all rows of a slab, of formats of 32 weights.
struct alignas(64) SlabRun32s {
    std::uint8_t number[kSlabRows][kRun];
    float scale[kSlabRows][8];
    float minimum[kSlabRows][8];
};

struct alignas(64) SlabRun256 {
    std::uint8_t number[kSlabRows][kRun];
    float scale[kSlabRows][16];          // eight of them where 32 weights share one
    std::int32_t minimum[kSlabRows][8];  // 16-bit ones, two neighbours together
    float minimum_factor[kSlabRows];
};

// A block's minimums as times_sums() takes them.
template <class Block>
void put_minimums(const Block& block, std::int32_t* out) {
    const __m256i words = block.minimum_numbers();
    if constexpr (kGroup<Block> == 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), words);
    } else {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_cvtepi32_epi16(words));
    }
}

// Eight neighbouring blocks of one row.
template <class Block>
void unpack_run(const Block* eight, int row, SlabRun32s& out) {
    _mm256_storeu_ps(out.scale[row], Block::scales(eight));
    if constexpr (requires_minimums<Block>(0)) {
        _mm256_storeu_ps(out.minimum[row], Block::minimums(eight));
    }
    for (int pair = 0; pair < 4; ++pair) {
        store_bytes(Block::numbers(eight + 2 * pair), out.number[row] + 64 * pair);
    }
}

template <class Block>
void unpack_row(const Block* block, std::size_t columns, int row, SlabRun32s& out) {
    if (columns >= kRun) return unpack_run(block, row, out);
    Block padded[8] = {};
    std::memcpy(padded, block, columns / 32 * sizeof(Block));
    unpack_run(padded, row, out);
}

template <class Block>
void unpack_row(const Block* block, std::size_t, int row, SlabRun256& out) {
    for (int quarter = 0; quarter < 4; ++quarter) {
        store_bytes(unsigned_bytes(block->numbers(quarter)), out.number[row] + 64 * quarter);
    }
    __m512i scales = _mm512_cvtepi16_epi32(block->scale_numbers());
    if constexpr (kGroup<Block> == 32) {
        scales = _mm512_permutexvar_epi32(
            _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0), scales);
    }
    _mm512_store_ps(out.scale[row],
                    _mm512_mul_ps(_mm512_cvtepi32_ps(scales), _mm512_set1_ps(block->factor())));
    if constexpr (requires_minimum<Block>(0)) {
        put_minimums(*block, out.minimum[row]);
        out.minimum_factor[row] = block->minimum_factor();
    }
}

// Where a row's blocks from `column` on stand.
template <class Block>
const Block* blocks_at(const Rows& rows, std::size_t row, std::size_t column) {
    return reinterpret_cast<const Block*>(rows.first + row * rows.stride_bytes) +
           column / Block::kWeights;
}

}  // namespace hybrid::HYBRID_TIER
