// The frame of every many-token product on AVX-512: of 32 rows a few columns at a time are unpacked
// into a slab that stays in the L1 cache, and multiplied there with all tokens, up to 256, while
// the next columns' blocks are fetched from memory.
//
// A product says, as static members:
//     Packed, kPackedColumns   one tile of tokens over that many columns
//     Slab, kColumns           weights of kSlabRows rows over that many, whole Packed
//     Unit                     begins before and ends after all of a call's products
//     pack(x, tile, packed)    all columns of a tile
//     unpack(rows, first, count, column, slab)   rows beyond count keep what they held
//     multiply(slab, columns, count, batch, sums)    adds to sums.of[tile][row][token]
#pragma once

#include <immintrin.h>

#include "formats.h"
#include "gemm_tokens.h"
#include "prefetch.h"
#include "row_dot.h"

namespace hybrid::HYBRID_TIER {

constexpr int kSlabRows = 32;
constexpr int kTilesAtOnce = 16;  // their sums stay in the L2 cache

// A unit that needs no setting up.
struct NoUnit {
    static void begin() {}
    static void end() {}
};

// Sums of rows beyond the real ones are anything.
struct alignas(64) SlabSums {
    float of[kTilesAtOnce][kSlabRows][kTokenTile];
};

// Some tiles of tokens over a slab's columns.
template <class Packed>
struct Batch {
    const Packed* first;
    std::size_t per_tile;  // from one tile to the next
    int tiles;

    const Packed* of(int tile) const { return first + static_cast<std::size_t>(tile) * per_tile; }
};

// Asks for what of a row is unpacked next: its next kColumns, or the first ones of the slab after
// this. Workers mostly get rows that follow one another.
template <class Block, std::size_t kColumns>
void prefetch_next(const Rows& rows, std::size_t row, std::size_t column) {
    constexpr std::size_t kBytes = kColumns / Block::kWeights * sizeof(Block);
    const std::size_t next = column + kColumns;
    const std::size_t at = next < rows.columns
                               ? row * rows.stride_bytes + next / Block::kWeights * sizeof(Block)
                               : (row + kSlabRows) * rows.stride_bytes;
    prefetch(rows.first + at, kBytes);
}

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
    for (int r = 0; r < 16; ++r) lanes[r] = _mm512_load_si512(sums.of[tile][first_row + r]);
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

// Tiles to multiply together, three at most: four are two and two, so that seldom one is left.
inline int tiles_now(int left) {
    return left == 4 ? 2 : left < 3 ? left : 3;
}

inline std::size_t parts_of(std::size_t columns, std::size_t part) {
    return (columns + part - 1) / part;
}

template <class Product>
std::size_t product_packed_bytes(std::size_t columns, int tokens) {
    return static_cast<std::size_t>(token_tiles(tokens)) *
           parts_of(columns, Product::kPackedColumns) * sizeof(typename Product::Packed);
}

template <class Product>
struct Scratch {
    SlabSums sums;
    typename Product::Slab slab;
};

template <class Product>
std::size_t product_scratch_bytes(std::size_t) {
    return sizeof(Scratch<Product>);
}

template <class Product>
void product_pack(const Tokens& x, int tile_begin, int tile_end, void* packed) {
    const std::size_t per_tile = parts_of(x.columns, Product::kPackedColumns);
    auto* tiles = static_cast<typename Product::Packed*>(packed);
    for (int tile = tile_begin; tile < tile_end; ++tile) {
        Product::pack(x, tile, tiles + static_cast<std::size_t>(tile) * per_tile);
    }
}

template <class Product>
void multiply_rows(const Rows& rows, std::size_t begin, int count,
                   const Batch<typename Product::Packed>& all, Scratch<Product>& scratch) {
    std::memset(scratch.sums.of, 0,
                static_cast<std::size_t>(all.tiles) * sizeof scratch.sums.of[0]);
    for (std::size_t c = 0; c < rows.columns; c += Product::kColumns) {
        const std::size_t left = rows.columns - c;
        Product::unpack(rows, begin, count, c, scratch.slab);
        Product::multiply(scratch.slab, left < Product::kColumns ? left : Product::kColumns, count,
                          {all.first + c / Product::kPackedColumns, all.per_tile, all.tiles},
                          scratch.sums);
    }
}

template <class Product>
void product_multiply(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                      int tokens, void* scratch, const Outputs& y) {
    using Packed = typename Product::Packed;
    auto& own = *static_cast<Scratch<Product>*>(scratch);
    const std::size_t per_tile = parts_of(rows.columns, Product::kPackedColumns);
    const Batch<Packed> all{static_cast<const Packed*>(packed), per_tile, token_tiles(tokens)};
    Product::Unit::begin();
    for (std::size_t r = begin; r < end; r += kSlabRows) {
        const int count = end - r < kSlabRows ? static_cast<int>(end - r) : kSlabRows;
        for (int tile = 0; tile < all.tiles; tile += kTilesAtOnce) {
            const int now = all.tiles - tile < kTilesAtOnce ? all.tiles - tile : kTilesAtOnce;
            multiply_rows<Product>(rows, r, count, {all.of(tile), per_tile, now}, own);
            const auto first = static_cast<std::size_t>(tile * kTokenTile);
            write_sums(own.sums, count, now, tokens - tile * kTokenTile,
                       {y.first + first * y.stride + r, y.stride});
        }
    }
    Product::Unit::end();
}

template <class Product>
constexpr TokenProduct slab_product(int from_tokens) {
    return {product_packed_bytes<Product>, product_scratch_bytes<Product>, product_pack<Product>,
            product_multiply<Product>, from_tokens};
}

}  // namespace hybrid::HYBRID_TIER
