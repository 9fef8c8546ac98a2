// Weights of a run of 256 columns, as they decode, rounded once to bf16.
#pragma once

#include "gemm_weights.h"

namespace hybrid::HYBRID_TIER {

// weight = number * scale + minimum, the last two of each 16. Products are exact in float32, so
// that the sums are the very floats of decode().
struct alignas(64) RunScales {
    float scale[16], minimum[16];
};

inline __m512 floats_of_words(__m256i words, float factor) {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words)), _mm512_set1_ps(factor));
}

// Each of eight floats twice.
inline __m512 each_twice(Floats8 values) {
    return _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0),
                                 _mm512_castps256_ps512(values));
}

// Of a block of 256 weights, or eight of 32.
template <class Block>
void read_scales(const Block* block, RunScales& out) {
    if constexpr (Block::kWeights == 256) {
        _mm512_store_ps(out.scale, floats_of_words(block->scale_numbers(), block->factor()));
        if constexpr (requires_minimum<Block>(0)) {
            _mm512_store_ps(out.minimum,
                            floats_of_words(block->minimum_numbers(), -block->minimum_factor()));
        }
    } else {
        _mm512_store_ps(out.scale, each_twice(Block::scales(block)));
        if constexpr (requires_minimums<Block>(0)) {
            _mm512_store_ps(out.minimum, each_twice(Block::minimums(block)));
        }
    }
}

template <class Block>
constexpr auto has_values(int) -> decltype(&Block::kValues, true) {
    return true;
}
template <class Block>
constexpr bool has_values(long) {
    return false;
}

template <class Block>
constexpr bool kHasMinimums = requires_minimum<Block>(0) || requires_minimums<Block>(0);

// Sixteen numbers with scale and minimum k.
template <class Block>
__m512 scaled(__m512 numbers, const RunScales& run, int k) {
    const __m512 scale = _mm512_set1_ps(run.scale[k]);
    if constexpr (kHasMinimums<Block>) {
        return _mm512_fmadd_ps(numbers, scale, _mm512_set1_ps(run.minimum[k]));
    } else {
        return _mm512_mul_ps(numbers, scale);
    }
}

inline Bytes signed_bytes(Bytes numbers, int offset) {
    return _mm512_sub_epi8(numbers, all_bytes(offset));
}

inline Bytes signed_bytes(const Signed& numbers, int) {
    return flip(numbers.magnitude, numbers.negative);
}

inline __m512 floats_of_bytes(const std::int8_t* bytes_16) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes_16))));
}

// Any format: every weight is computed.
template <class Block>
void compute_bf16(const Block* block, std::uint16_t* out) {
    RunScales run;
    read_scales(block, run);
    alignas(64) std::int8_t number[kRun];
    for (int quarter = 0; quarter < 4; ++quarter) {
        if constexpr (Block::kWeights == 256) {
            store_bytes(signed_bytes(block->numbers(quarter), Block::kOffset),
                        number + 64 * quarter);
        } else {
            store_bytes(signed_bytes(Block::numbers(block + 2 * quarter), Block::kOffset),
                        number + 64 * quarter);
        }
    }
#pragma GCC unroll 8
    for (int k = 0; k < 16; k += 2) {
        const __m512 first = scaled<Block>(floats_of_bytes(number + 16 * k), run, k);
        const __m512 last = scaled<Block>(floats_of_bytes(number + 16 * (k + 1)), run, k + 1);
        _mm512_store_si512(out + 16 * k, (__m512i)_mm512_cvtne2ps_pbh(last, first));
    }
}

// 32 weights by the words' low nibbles and the first half of the table, 32 by the next nibbles and
// the other half.
inline void choose_groups(__m512i words, __m512i table, std::uint16_t* out) {
    const __m512i low = _mm512_and_si512(words, _mm512_set1_epi16(15));
    const __m512i high = _mm512_or_si512(_mm512_srli_epi16(words, 4), _mm512_set1_epi16(16));
    _mm512_store_si512(out, _mm512_permutexvar_epi16(low, table));
    _mm512_store_si512(out + 32, _mm512_permutexvar_epi16(high, table));
}

inline void store_halves(__m512i weights, std::uint16_t* low, std::uint16_t* high) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(low), _mm512_castsi512_si256(weights));
    _mm256_store_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(weights, 1));
}

// The same of two blocks of 32 weights, a byte's nibbles 16 weights apart.
inline void choose_blocks(const std::uint8_t* first, const std::uint8_t* last, __m512i table,
                          std::uint16_t* out) {
    const __m512i words = _mm512_cvtepu8_epi16(_mm256_loadu2_m128i(
        reinterpret_cast<const __m128i*>(last), reinterpret_cast<const __m128i*>(first)));
    const __m512i of_last = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    const __m512i low = _mm512_and_si512(words, _mm512_set1_epi16(15));
    const __m512i high = _mm512_srli_epi16(words, 4);
    store_halves(_mm512_permutexvar_epi16(_mm512_or_si512(low, of_last), table), out, out + 32);
    store_halves(_mm512_permutexvar_epi16(_mm512_or_si512(high, of_last), table), out + 16,
                 out + 48);
}

// Formats of nibbles: the sixteen weights that 32 neighbours can have are computed, and chosen
// from.
template <class Block>
void choose_bf16(const Block* block, std::uint16_t* out) {
    RunScales run;
    read_scales(block, run);
    const __m512 values = floats_of_bytes(Block::kValues);
#pragma GCC unroll 4
    for (int k = 0; k < 8; k += 2) {
        const auto table = (__m512i)_mm512_cvtne2ps_pbh(scaled<Block>(values, run, 2 * k + 2),
                                                        scaled<Block>(values, run, 2 * k));
        if constexpr (Block::kWeights == 256) {
            choose_groups(_mm512_cvtepu8_epi16(_mm256_loadu_si256(
                              reinterpret_cast<const __m256i*>(block->nibbles + 16 * k))),
                          table, out + 32 * k);
        } else {
            choose_blocks(block[k].nibbles, block[k + 1].nibbles, table, out + 32 * k);
        }
    }
}

template <class Block>
void unpack_bf16(const Block* block, std::uint16_t* out) {
    if constexpr (has_values<Block>(0)) {
        choose_bf16(block, out);
    } else {
        compute_bf16(block, out);
    }
}

}  // namespace hybrid::HYBRID_TIER
