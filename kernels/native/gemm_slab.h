// The frame of every many-token product on AVX-512: of 32 rows a few columns at a time are unpacked
// into a slab that stays in the cache, and multiplied there with all tokens, up to 256, while the
// next columns' blocks are fetched from memory. A unit that multiplies beside the vector units has
// two slabs in turn: the next one is unpacked between its products.
//
// A product says, as static members:
//     Packed, kPackedColumns   one tile of tokens over that many columns
//     Slab, kColumns           weights of kSlabRows rows over that many, whole Packed
//     Unit                     begins before and ends after all of a call's products; kSlabs
//     pack(x, tile, packed)    all columns of a tile
//     unpack(rows, row, column, r, slab)     a row of the matrix into row r of the slab
//     multiply(slab, columns, count, batch, sums, between)     adds to sums.of[tile][row][token];
//                              with two slabs it calls between(work done, all of it) now and then
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
    static constexpr int kSlabs = 1;
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
    typename Product::Slab slab[Product::Unit::kSlabs];
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

// What is multiplied at a time; columns go first, then tiles of tokens, then rows.
struct Step {
    std::size_t row, column;
    int tile;

    template <std::size_t kColumns>
    Step next(std::size_t columns, int tiles) const {
        if (column + kColumns < columns) return {row, column + kColumns, tile};
        if (tile + kTilesAtOnce < tiles) return {row, 0, tile + kTilesAtOnce};
        return {row + kSlabRows, 0, 0};
    }
};

// A slab on its way: none of its rows, some or all are there. Rows beyond the real ones keep what
// they held.
template <class Product>
class Unpacking {
  public:
    Unpacking(const Rows& rows, std::size_t end, const Step& step, typename Product::Slab& slab)
        : rows_(rows), step_(step), slab_(slab) {
        if (step.row < end) count_ = end - step.row < kSlabRows ? end - step.row : kSlabRows;
    }

    // done of `all` parts of the rows at least.
    void reach(std::size_t done, std::size_t all) {
        for (; unpacked_ * all < count_ * done; ++unpacked_) {
            Product::unpack(rows_, step_.row + unpacked_, step_.column, static_cast<int>(unpacked_),
                            slab_);
        }
    }

    int count() const { return static_cast<int>(count_); }

  private:
    const Rows& rows_;
    Step step_;
    typename Product::Slab& slab_;
    std::size_t count_ = 0, unpacked_ = 0;
};

template <class Product>
void product_multiply(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                      int tokens, void* scratch, const Outputs& y) {
    using Packed = typename Product::Packed;
    constexpr int kSlabs = Product::Unit::kSlabs;
    auto& own = *static_cast<Scratch<Product>*>(scratch);
    const std::size_t per_tile = parts_of(rows.columns, Product::kPackedColumns);
    const Batch<Packed> all{static_cast<const Packed*>(packed), per_tile, token_tiles(tokens)};
    Product::Unit::begin();
    int slab = 0;
    Step step{begin, 0, 0};
    Unpacking<Product> first(rows, end, step, own.slab[0]);
    first.reach(1, 1);
    for (int count = first.count(); step.row < end;) {
        const Step next = step.next<Product::kColumns>(rows.columns, all.tiles);
        const int left = all.tiles - step.tile, tiles = left < kTilesAtOnce ? left : kTilesAtOnce;
        if (step.column == 0) std::memset(own.sums.of, 0, tiles * sizeof own.sums.of[0]);
        const std::size_t columns = rows.columns - step.column;
        const auto* x = all.of(step.tile) + step.column / Product::kPackedColumns;
        Unpacking<Product> ahead(rows, end, next, own.slab[(slab + 1) % kSlabs]);
        Product::multiply(own.slab[slab], columns < Product::kColumns ? columns : Product::kColumns,
                          count, {x, per_tile, tiles}, own.sums,
                          [&](std::size_t done, std::size_t of) { ahead.reach(done, of); });
        ahead.reach(1, 1);
        if (next.column == 0) {
            const auto token = static_cast<std::size_t>(step.tile * kTokenTile);
            write_sums(own.sums, count, tiles, tokens - step.tile * kTokenTile,
                       {y.first + token * y.stride + step.row, y.stride});
        }
        slab = (slab + 1) % kSlabs, count = ahead.count(), step = next;
    }
    Product::Unit::end();
}

template <class Product>
constexpr TokenProduct slab_product(int from_tokens) {
    return {product_packed_bytes<Product>, product_scratch_bytes<Product>, product_pack<Product>,
            product_multiply<Product>, from_tokens};
}

}  // namespace hybrid::HYBRID_TIER
