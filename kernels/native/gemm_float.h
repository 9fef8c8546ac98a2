// Many tokens by float32 products: every format, exact in weights and activations.
#pragma once

#include "gemm_slab.h"

namespace hybrid::HYBRID_TIER {

constexpr std::size_t kFloatRun = 64;  // columns whose weights and activations fit the L1 cache

struct alignas(64) PackedFloats {
    float value[kFloatRun][kTokenTile];
};

// Rows lie a line further apart than their length, so that they do not compete for the same places
// in the cache.
struct alignas(64) SlabFloats {
    float weight[kSlabRows][kRun + 16];
};

inline void pack_floats(const Tokens& x, int tile, PackedFloats* out) {
    for (std::size_t first = 0; first < x.columns; first += kFloatRun, ++out) {
        for (std::size_t part = 0; part < kFloatRun; part += 16) {
            const std::size_t at = first + part;
            const std::size_t here = at >= x.columns       ? 0
                                     : x.columns - at < 16 ? x.columns - at
                                                           : 16;
            const auto real = static_cast<__mmask16>((1u << here) - 1);
            __m512i lanes[16];
            for (int i = 0; i < kTokenTile; ++i) {
                const int t = tile * kTokenTile + i;
                lanes[i] = t < x.count ? _mm512_maskz_loadu_epi32(real, token(x, t) + at)
                                       : _mm512_setzero_si512();
            }
            transpose(lanes);
            for (int i = 0; i < 16; ++i) _mm512_store_si512(out->value[part + i], lanes[i]);
        }
    }
}

template <int kRowsNow, int kTiles>
void multiply_floats(const SlabFloats& slab, int row, std::size_t column,
                     const PackedFloats* const (&x)[kTiles], int tile, SlabSums& out) {
    __m512 y[kRowsNow][kTiles];
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_load_ps(out.of[tile + t][row + r]);
    for (std::size_t c = 0; c < kFloatRun; ++c) {
        __m512 b[kTiles];
        for (int t = 0; t < kTiles; ++t) b[t] = _mm512_load_ps(x[t]->value[c]);
        for (int r = 0; r < kRowsNow; ++r) {
            const __m512 a = _mm512_set1_ps(slab.weight[row + r][column + c]);
            for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_fmadd_ps(a, b[t], y[r][t]);
        }
    }
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) _mm512_store_ps(out.of[tile + t][row + r], y[r][t]);
}

struct FloatProducts {
    using Packed = PackedFloats;
    using Slab = SlabFloats;
    using Unit = NoUnit;
    static constexpr std::size_t kPackedColumns = kFloatRun, kColumns = kRun;

    static void pack(const Tokens& x, int tile, Packed* packed) { pack_floats(x, tile, packed); }

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const Slab& slab, std::size_t column, int count,
                               const Batch<Packed>& batch, int tile, SlabSums& sums) {
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = batch.of(tile + t) + column / kFloatRun;
        for (int row = 0; row < count; row += kRowsNow) {
            multiply_floats<kRowsNow, kTiles>(slab, row, column, x, tile, sums);
        }
    }

    template <class Between>
    static void multiply(const Slab& slab, std::size_t columns, int count,
                         const Batch<Packed>& batch, SlabSums& sums, const Between&) {
        for (std::size_t c = 0; c < columns; c += kFloatRun) {
            for (int tile = 0, now; tile < batch.tiles; tile += now) {
                now = tiles_now(batch.tiles - tile);
                if (now == 3) multiply_tiles<8, 3>(slab, c, count, batch, tile, sums);
                if (now == 2) multiply_tiles<8, 2>(slab, c, count, batch, tile, sums);
                if (now == 1) multiply_tiles<16, 1>(slab, c, count, batch, tile, sums);
            }
        }
    }
};

template <class Block>
struct FloatProduct : FloatProducts {
    static void unpack(const Rows& rows, std::size_t row, std::size_t column, int r, Slab& slab) {
        const std::size_t left = rows.columns - column, here = left < kColumns ? left : kColumns;
        prefetch_next<Block, kColumns>(rows, row, column);
        decode_blocks<Block>(
            rows.first + row * rows.stride_bytes + column / Block::kWeights * sizeof(Block), here,
            slab.weight[r]);
        std::memset(slab.weight[r] + here, 0, (kColumns - here) * sizeof(float));
    }
};

}  // namespace hybrid::HYBRID_TIER
