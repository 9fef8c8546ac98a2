// Many tokens by vpdpbusd: four rows times three tiles of 16 tokens stay in registers, as integers
// over the columns that share a scale, then as floats.
//
// A slab holds numbers as unsigned bytes, kBias too large; the integers start at -kBias times the
// sum of the activations. Weights are exact.
#pragma once

#include "gemm_activations.h"
#include "gemm_weights.h"

namespace hybrid::HYBRID_TIER {

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

// What products need to know of a format: many share it.
template <int kBiasOf, int kWidthOf, bool kMinimumsOf>
struct KindOf {
    static constexpr int kBias = kBiasOf, kWidth = kWidthOf;  // weights that share a scale
    static constexpr bool kMinimums = kMinimumsOf;
};

// Formats of 32 weights: `groups` blocks of a run.
template <class Kind, int kRowsNow, int kTiles>
void multiply_run(const SlabRun32s& slab, int row, int groups, const Packed32s* const (&x)[kTiles],
                  int tile, SlabSums& out) {
    const __m512i bias = _mm512_set1_epi16(-Kind::kBias);
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
            if constexpr (Kind::kMinimums) {
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
template <class Kind>
__m512i bias_words(int group) {
    constexpr int kLess = -Kind::kBias;
    if (Kind::kWidth == 32) return _mm512_set1_epi16(kLess);
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

// Formats of 256 weights: one block.
template <class Kind, int kRowsNow, int kTiles>
void multiply_run(const SlabRun256& slab, int row, int, const Packed256* const (&x)[kTiles],
                  int tile, SlabSums& out) {
    constexpr int kWidth = Kind::kWidth;
    __m512 y[kRowsNow][kTiles];
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_setzero_ps();
    for (int g = 0; g < kRun / kWidth; ++g) {
        __m512i sums[kRowsNow][kTiles];
        for (int t = 0; t < kTiles; ++t) {
            __m512i start = _mm512_setzero_si512();
            if constexpr (Kind::kBias != 0) {
                start = _mm512_dpwssd_epi32(start, bias_words<Kind>(g),
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
            if constexpr (Kind::kMinimums) {
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

template <class Kind, class SlabRun, class PackedRun>
struct ByteProducts {
    using Packed = PackedRun;
    using Slab = SlabRun;
    using Unit = NoUnit;
    static constexpr std::size_t kPackedColumns = kRun, kColumns = kRun;

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const Slab& slab, int groups, int count, const Batch<Packed>& batch,
                               int tile, SlabSums& sums) {
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = batch.of(tile + t);
        for (int row = 0; row < count; row += kRowsNow) {
            multiply_run<Kind, kRowsNow, kTiles>(slab, row, groups, x, tile, sums);
        }
    }

    template <class Between>
    static void multiply(const Slab& slab, std::size_t columns, int count,
                         const Batch<Packed>& batch, SlabSums& sums, const Between&) {
        const int groups = static_cast<int>(columns / 32);
        for (int tile = 0, now; tile < batch.tiles; tile += now) {
            now = tiles_now(batch.tiles - tile);
            if (now == 3) multiply_tiles<4, 3>(slab, groups, count, batch, tile, sums);
            if (now == 2) multiply_tiles<4, 2>(slab, groups, count, batch, tile, sums);
            if (now == 1) multiply_tiles<8, 1>(slab, groups, count, batch, tile, sums);
        }
    }
};

template <class Block, class Run, class Products>
struct ByteProduct : Products {
    static void pack(const Tokens& x, int tile, typename Products::Packed* packed) {
        pack_tile<Run>(x, tile, packed);
    }

    static void unpack(const Rows& rows, std::size_t row, std::size_t column, int r,
                       typename Products::Slab& slab) {
        prefetch_next<Block, kRun>(rows, row, column);
        unpack_row(blocks_at<Block>(rows, row, column), rows.columns - column, r, slab);
    }
};

template <class Block>
using SmallProduct = ByteProduct<
    Block, RunOf32s,
    ByteProducts<KindOf<Block::kOffset, 32, requires_minimums<Block>(0)>, SlabRun32s, Packed32s>>;
template <class Block>
using SuperProduct =
    ByteProduct<Block, RunOf256,
                ByteProducts<KindOf<kBias<Block>, kGroup<Block>, requires_minimum<Block>(0)>,
                             SlabRun256, Packed256>>;

}  // namespace hybrid::HYBRID_TIER
