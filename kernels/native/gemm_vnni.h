// Many tokens by vpdpbusd: four rows times three tiles of 16 tokens stay in registers, as integers
// over the columns that share a scale, then as floats.
//
// A slab holds numbers as unsigned bytes, kBias too large; the integers start at -kBias times the
// sum of the activations. Weights are exact.
#pragma once

#include "gemm_activations.h"

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

inline __m512i four_weights(const std::uint8_t* number) {
    std::int32_t word;
    std::memcpy(&word, number, 4);
    return _mm512_set1_epi32(word);
}

// The intrinsic, but in place: of it GCC 12 makes two copies more for every product in a loop.
inline __m512i add_fours(__m512i sums, __m512i unsigned_bytes, __m512i signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
    return sums;
}

// Products of kRowsNow rows and kTiles tiles over columns 4 first .. 4 last - 1, added to `sums`.
template <int kRowsNow, int kTiles, class Packed>
[[gnu::always_inline]] inline void add_products(const std::uint8_t (*number)[kRun],
                                                const Packed* const (&x)[kTiles], int first,
                                                int last, __m512i (&sums)[kRowsNow][kTiles]) {
#pragma GCC unroll 8
    for (int k = first; k < last; ++k) {
        __m512i b[kTiles];
        for (int t = 0; t < kTiles; ++t) b[t] = _mm512_load_si512(x[t]->number[k]);
        for (int r = 0; r < kRowsNow; ++r) {
            const __m512i a = four_weights(number[r] + 4 * k);
            for (int t = 0; t < kTiles; ++t) sums[r][t] = add_fours(sums[r][t], a, b[t]);
        }
    }
}

// The scaled sum of a group's 32 activations, for each token.
inline __m512 scaled_sums(const Packed32s& x, int group) {
    const __m512i sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_set1_epi16(1),
                                            _mm512_load_si512(x.sum[group]));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_load_ps(x.scale[group]));
}

// Formats of 32 weights: `groups` blocks of a run.
template <class Block, int kRowsNow, int kTiles>
void multiply_run(const SlabRun32s& slab, int row, int groups, const Packed32s* const (&x)[kTiles],
                  int tile, SlabSums& out) {
    const __m512i bias = _mm512_set1_epi16(-Block::kOffset);
    __m512 y[kRowsNow][kTiles];
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_load_ps(out.of[tile + t][row + r]);
    for (int g = 0; g < groups; ++g) {
        __m512i sums[kRowsNow][kTiles];
        for (int t = 0; t < kTiles; ++t) {
            const __m512i start =
                _mm512_dpwssd_epi32(_mm512_setzero_si512(), bias, _mm512_load_si512(x[t]->sum[g]));
            for (int r = 0; r < kRowsNow; ++r) sums[r][t] = start;
        }
        add_products<kRowsNow, kTiles>(slab.number + row, x, 8 * g, 8 * g + 8, sums);
        for (int t = 0; t < kTiles; ++t) {
            const __m512 scale = _mm512_load_ps(x[t]->scale[g]);
            for (int r = 0; r < kRowsNow; ++r) {
                const __m512 by = _mm512_mul_ps(scale, _mm512_set1_ps(slab.scale[row + r][g]));
                y[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][t]), by, y[r][t]);
            }
            if constexpr (requires_minimums<Block>(0)) {
                const __m512 scaled = scaled_sums(*x[t], g);
                for (int r = 0; r < kRowsNow; ++r) {
                    y[r][t] =
                        _mm512_fmadd_ps(_mm512_set1_ps(slab.minimum[row + r][g]), scaled, y[r][t]);
                }
            }
        }
    }
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) _mm512_store_ps(out.of[tile + t][row + r], y[r][t]);
}

// Sixteen-bit words that take -kBias times one group's sum out of a pair of sums of 16.
template <class Block>
__m512i bias_words(int group) {
    constexpr int kLess = -kBias<Block>;
    if (kGroup<Block> == 32) return _mm512_set1_epi16(kLess);
    return _mm512_set1_epi32(group % 2 ? kLess * 65536 : kLess & 0xFFFF);
}

// Minimums, each of kWidth weights, times the sums of as many activations.
template <int kWidth>
__m512i times_sums(const std::int32_t* minimum, const PackedNumbers& x) {
    __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int pair = 0; pair < kRun / kWidth / 2; ++pair) {
        const void* sum = kWidth == 16 ? x.sum[pair] : x.sum_32[pair];
        sums[pair % 2] = _mm512_dpwssd_epi32(sums[pair % 2], _mm512_set1_epi32(minimum[pair]),
                                             _mm512_load_si512(sum));
    }
    return _mm512_add_epi32(sums[0], sums[1]);
}

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

// Formats of 256 weights: one block.
template <class Block, int kRowsNow, int kTiles>
void multiply_run(const SlabRun256& slab, int row, int, const Packed256* const (&x)[kTiles],
                  int tile, SlabSums& out) {
    constexpr int kWidth = kGroup<Block>;
    __m512 y[kRowsNow][kTiles];
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_setzero_ps();
    for (int g = 0; g < kRun / kWidth; ++g) {
        __m512i sums[kRowsNow][kTiles];
        for (int t = 0; t < kTiles; ++t) {
            __m512i start = _mm512_setzero_si512();
            if constexpr (kBias<Block> != 0) {
                start = _mm512_dpwssd_epi32(start, bias_words<Block>(g),
                                            _mm512_load_si512(x[t]->sum[g * kWidth / 32]));
            }
            for (int r = 0; r < kRowsNow; ++r) sums[r][t] = start;
        }
        add_products<kRowsNow, kTiles>(slab.number + row, x, kWidth / 4 * g, kWidth / 4 * (g + 1),
                                       sums);
        for (int r = 0; r < kRowsNow; ++r) {
            const __m512 scale = _mm512_set1_ps(slab.scale[row + r][g]);
            for (int t = 0; t < kTiles; ++t)
                y[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][t]), scale, y[r][t]);
        }
    }
    for (int r = 0; r < kRowsNow; ++r) {
        for (int t = 0; t < kTiles; ++t) {
            if constexpr (requires_minimum<Block>(0)) {
                const __m512i sum = times_sums<kWidth>(slab.minimum[row + r], *x[t]);
                y[r][t] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum),
                                           _mm512_set1_ps(slab.minimum_factor[row + r]), y[r][t]);
            }
            float* at = out.of[tile + t][row + r];
            _mm512_store_ps(
                at, _mm512_fmadd_ps(y[r][t], _mm512_load_ps(x[t]->scale), _mm512_load_ps(at)));
        }
    }
}

inline Bytes less(Bytes numbers, int offset) {
    return _mm512_sub_epi8(numbers, all_bytes(offset));
}

// Eight neighbouring blocks of one row; their numbers less kLess.
template <class Block, int kLess>
void unpack_run(const Block* eight, int row, SlabRun32s& out) {
    _mm256_storeu_ps(out.scale[row], Block::scales(eight));
    if constexpr (requires_minimums<Block>(0)) {
        _mm256_storeu_ps(out.minimum[row], Block::minimums(eight));
    }
    for (int pair = 0; pair < 4; ++pair) {
        store_bytes(less(Block::numbers(eight + 2 * pair), kLess), out.number[row] + 64 * pair);
    }
}

template <class Block, int kLess = 0>
void unpack_row(const Block* block, std::size_t columns, int row, SlabRun32s& out) {
    if (columns >= kRun) return unpack_run<Block, kLess>(block, row, out);
    Block padded[8] = {};
    std::memcpy(padded, block, columns / 32 * sizeof(Block));
    unpack_run<Block, kLess>(padded, row, out);
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

template <class Block, class SlabRun, class Run, class PackedRun>
struct ByteProduct {
    using Packed = PackedRun;
    using Slab = SlabRun;
    using Unit = NoUnit;
    static constexpr std::size_t kPackedColumns = kRun, kColumns = kRun;

    static void pack(const Tokens& x, int tile, Packed* packed) { pack_tile<Run>(x, tile, packed); }

    static void unpack(const Rows& rows, std::size_t first, int count, std::size_t column,
                       Slab& slab) {
        for (int r = 0; r < count; ++r) {
            const Block* block =
                blocks_at<Block>(rows, first + static_cast<std::size_t>(r), column);
            unpack_row(block, rows.columns - column, r, slab);
        }
    }

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const Slab& slab, int groups, int count, const Batch<Packed>& batch,
                               int tile, Fetch& fetch, SlabSums& sums) {
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = batch.of(tile + t);
        for (int row = 0; row < count; row += kRowsNow) {
            multiply_run<Block, kRowsNow, kTiles>(slab, row, groups, x, tile, sums);
            fetch.beside(kRowsNow);
        }
    }

    static void multiply(const Slab& slab, std::size_t columns, int count,
                         const Batch<Packed>& batch, Fetch& fetch, SlabSums& sums) {
        const int groups = static_cast<int>(columns / 32);
        for (int tile = 0, now; tile < batch.tiles; tile += now) {
            now = tiles_now(batch.tiles - tile);
            if (now == 3) multiply_tiles<4, 3>(slab, groups, count, batch, tile, fetch, sums);
            if (now == 2) multiply_tiles<4, 2>(slab, groups, count, batch, tile, fetch, sums);
            if (now == 1) multiply_tiles<8, 1>(slab, groups, count, batch, tile, fetch, sums);
        }
    }
};

template <class Block>
using SmallProduct = ByteProduct<Block, SlabRun32s, RunOf32s, Packed32s>;
template <class Block>
using SuperProduct = ByteProduct<Block, SlabRun256, RunOf256, Packed256>;

}  // namespace hybrid::HYBRID_TIER
