// Many tokens by float32 products: every format, exact in weights and activations.
#pragma once

#include "gemm_slab.h"

namespace hybrid::HYBRID_TIER {

constexpr std::size_t kFloatRun = 64;  // columns whose weights and activations fit the L1 cache

struct alignas(64) PackedFloats {
    float value[kFloatRun][kTokenTile];
};

inline std::size_t float_runs_of(std::size_t columns) {
    return (columns + kFloatRun - 1) / kFloatRun;
}

// From one row of a slab to the next: a line more than whole runs, so that rows do not compete for
// the same places in the cache.
inline std::size_t float_row_stride(std::size_t columns) {
    return float_runs_of(columns) * kFloatRun + 16;
}

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
void multiply_floats(const float* weights, std::size_t stride, int row,
                     const PackedFloats* const (&x)[kTiles], SlabSums& out) {
    __m512 y[kRowsNow][kTiles];
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_load_ps(out.of[row + r][t]);
    for (std::size_t c = 0; c < kFloatRun; ++c) {
        __m512 b[kTiles];
        for (int t = 0; t < kTiles; ++t) b[t] = _mm512_load_ps(x[t]->value[c]);
        for (int r = 0; r < kRowsNow; ++r) {
            const __m512 a = _mm512_set1_ps(weights[r * stride + c]);
            for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_fmadd_ps(a, b[t], y[r][t]);
        }
    }
    for (int r = 0; r < kRowsNow; ++r)
        for (int t = 0; t < kTiles; ++t) _mm512_store_ps(out.of[row + r][t], y[r][t]);
}

template <class Block>
struct FloatProduct {
    using Packed = PackedFloats;
    using Unit = NoUnit;
    static constexpr int kTileStep = 3;

    static std::size_t packed_per_tile(std::size_t columns) { return float_runs_of(columns); }
    static std::size_t slab_bytes(std::size_t columns) {
        return kSlabRows * float_row_stride(columns) * sizeof(float);
    }

    static void pack(const Tokens& x, int tile, Packed* packed) { pack_floats(x, tile, packed); }

    static void unpack(const Rows& rows, std::size_t first, int count, void* slab) {
        const std::size_t stride = float_row_stride(rows.columns);
        for (int r = 0; r < count; ++r) {
            float* out = static_cast<float*>(slab) + static_cast<std::size_t>(r) * stride;
            const std::size_t row = first + static_cast<std::size_t>(r);
            decode_blocks<Block>(rows.first + row * rows.stride_bytes, rows.columns, out);
            std::memset(out + rows.columns, 0, (stride - rows.columns) * sizeof(float));
        }
    }

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const float* slab, std::size_t columns, int count,
                               const Packed* packed, Fetch& fetch, SlabSums& sums) {
        const std::size_t stride = float_row_stride(columns);
        const std::size_t per_tile = float_runs_of(columns);
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = packed + static_cast<std::size_t>(t) * per_tile;
        for (std::size_t c = 0; c < columns; c += kFloatRun) {
            for (int row = 0; row < count; row += kRowsNow) {
                const float* weights = slab + static_cast<std::size_t>(row) * stride + c;
                multiply_floats<kRowsNow, kTiles>(weights, stride, row, x, sums);
                fetch.lines(kRowsNow * sizeof(Block) * kFloatRun / Block::kWeights / 64 + 1);
            }
            for (int t = 0; t < kTiles; ++t) ++x[t];
        }
    }

    static void multiply(const void* slab, std::size_t columns, int count, const Packed* packed,
                         int tiles, Fetch& fetch, SlabSums& sums) {
        const auto* weights = static_cast<const float*>(slab);
        if (tiles == 3) multiply_tiles<4, 3>(weights, columns, count, packed, fetch, sums);
        if (tiles == 2) multiply_tiles<4, 2>(weights, columns, count, packed, fetch, sums);
        if (tiles == 1) multiply_tiles<8, 1>(weights, columns, count, packed, fetch, sums);
    }
};

}  // namespace hybrid::HYBRID_TIER
