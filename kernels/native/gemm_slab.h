// The frame of every many-token product on AVX-512: a slab of rows is unpacked into the worker's
// scratch, then multiplied with a few tiles of 16 tokens at a time, while the next slab's blocks
// are fetched from memory.
//
// A product says, as static members:
//     Packed                     one tile of tokens times one run of columns
//     Unit                       stands while the product multiplies
//     kTileStep                  tiles multiplied at a time, at most
//     packed_per_tile(columns)
//     slab_bytes(columns)
//     pack(x, tile, packed)      the tile's runs
//     unpack(rows, first, count, slab)           rows beyond count are zeros
//     multiply(slab, columns, count, packed, tiles, fetch, sums)
//                                adds to sums[row][tile][token]
#pragma once

#include <immintrin.h>

#include "formats.h"
#include "gemm_tokens.h"
#include "row_dot.h"

namespace hybrid::HYBRID_TIER {

constexpr int kSlabRows = 32;
constexpr int kTilesAtOnce = 4;  // the most that any product takes

// What stands while a product multiplies; this one sets nothing up.
struct NoUnit {
    NoUnit() {}
    ~NoUnit() {}
};

// What a slab's products with some tiles of tokens add up in.
struct alignas(64) SlabSums {
    float of[kSlabRows][kTilesAtOnce][kTokenTile];
};

// Fetches a stretch of memory into the L2 cache bit by bit, between the arithmetic.
struct Fetch {
    const std::uint8_t *next, *end;

    void lines(std::size_t count) {
        for (; count && next < end; --count, next += 64) __builtin_prefetch(next, 0, 2);
    }
};

// 16 x 16 values of 32 bits, rows to columns.
inline void transpose(__m512i (&row)[16]) {
    __m512i pairs[16], fours[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        const __m512i low = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0xDD);
        const __m512i low_2 = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0x88);
        const __m512i high_2 = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0xDD);
        row[i] = _mm512_shuffle_i32x4(low, low_2, 0x88);
        row[i + 4] = _mm512_shuffle_i32x4(high, high_2, 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(low, low_2, 0xDD);
        row[i + 12] = _mm512_shuffle_i32x4(high, high_2, 0xDD);
    }
}

// One tile's sums of 16 rows, `count` of them real, to y.first[t * y.stride + row].
inline void write_tile(const SlabSums& sums, int first_row, int tile, int count, int tokens,
                       const Outputs& y) {
    __m512i lanes[16];
    for (int r = 0; r < 16; ++r) lanes[r] = _mm512_load_si512(sums.of[first_row + r][tile]);
    transpose(lanes);
    const auto real = static_cast<__mmask16>((1u << count) - 1);
    for (int t = 0; t < tokens; ++t) {
        _mm512_mask_storeu_epi32(y.first + static_cast<std::size_t>(t) * y.stride, real, lanes[t]);
    }
}

inline void write_sums(const SlabSums& sums, int rows, int tiles, int tokens, const Outputs& y) {
    for (int tile = 0; tile < tiles; ++tile) {
        const int here = tokens - tile * kTokenTile;
        const Outputs out{y.first + static_cast<std::size_t>(tile * kTokenTile) * y.stride,
                          y.stride};
        for (int r = 0; r < rows; r += 16) {
            write_tile(sums, r, tile, rows - r < 16 ? rows - r : 16,
                       here < kTokenTile ? here : kTokenTile, {out.first + r, out.stride});
        }
    }
}

// Five tiles are three and two, four are two and two: a unit is seldom left with one.
inline int tiles_now(int left, int most) {
    return left <= most ? left : left < 2 * most ? (left + 1) / 2 : most;
}

template <class Product>
std::size_t product_packed_bytes(std::size_t columns, int tokens) {
    return static_cast<std::size_t>(token_tiles(tokens)) * Product::packed_per_tile(columns) *
           sizeof(typename Product::Packed);
}

template <class Product>
std::size_t product_scratch_bytes(std::size_t columns) {
    return sizeof(SlabSums) + Product::slab_bytes(columns);
}

template <class Product>
void product_pack(const Tokens& x, int tile_begin, int tile_end, void* packed) {
    auto* tiles = static_cast<typename Product::Packed*>(packed);
    for (int tile = tile_begin; tile < tile_end; ++tile) {
        Product::pack(x, tile,
                      tiles + static_cast<std::size_t>(tile) * Product::packed_per_tile(x.columns));
    }
}

template <class Product>
void product_multiply(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                      int tokens, void* scratch, const Outputs& y) {
    auto& sums = *static_cast<SlabSums*>(scratch);
    void* slab = &sums + 1;
    const auto* x = static_cast<const typename Product::Packed*>(packed);
    const std::size_t per_tile = Product::packed_per_tile(rows.columns);
    const int all = token_tiles(tokens);
    const typename Product::Unit unit;
    for (std::size_t r = begin; r < end; r += kSlabRows) {
        const int count = end - r < kSlabRows ? static_cast<int>(end - r) : kSlabRows;
        Product::unpack(rows, r, count, slab);
        const std::size_t next = r + kSlabRows < end ? r + kSlabRows : end;
        const std::size_t after = next + kSlabRows < end ? next + kSlabRows : end;
        Fetch fetch{rows.first + next * rows.stride_bytes, rows.first + after * rows.stride_bytes};
        for (int tile = 0, now; tile < all; tile += now) {
            now = tiles_now(all - tile, Product::kTileStep);
            std::memset(&sums, 0, sizeof sums);
            Product::multiply(slab, rows.columns, count,
                              x + static_cast<std::size_t>(tile) * per_tile, now, fetch, sums);
            const auto first = static_cast<std::size_t>(tile * kTokenTile);
            write_sums(sums, count, now, tokens - tile * kTokenTile,
                       {y.first + first * y.stride + r, y.stride});
        }
        fetch.lines(~std::size_t{0});
    }
}

template <class Product>
constexpr TokenProduct slab_product(int from_tokens) {
    return {product_packed_bytes<Product>, product_scratch_bytes<Product>, product_pack<Product>,
            product_multiply<Product>, from_tokens};
}

}  // namespace hybrid::HYBRID_TIER
