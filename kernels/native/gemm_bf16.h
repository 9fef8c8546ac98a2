// Many tokens times BF16 weights, activations rounded to bf16: products in float32.
#pragma once

#include "gemm_slab.h"

namespace hybrid::HYBRID_TIER {

constexpr std::size_t kBf16Run = 256;  // columns

struct alignas(64) PackedBf16 {
    std::uint16_t value[kBf16Run / 2][kTokenTile][2];
};

// A line more than whole runs, as in SlabFloats.
struct alignas(64) SlabBf16 {
    std::uint16_t weight[kSlabRows][kBf16Run + 32];
};

inline __m512 floats_from(const float* x, std::size_t at, std::size_t columns) {
    const std::size_t here = at >= columns ? 0 : columns - at < 16 ? columns - at : 16;
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << here) - 1), x + at);
}

inline void pack_bf16(const Tokens& x, int tile, PackedBf16* out) {
    for (std::size_t first = 0; first < x.columns; first += kBf16Run, ++out) {
        for (std::size_t part = 0; part < kBf16Run; part += 32) {
            const std::size_t at = first + part;
            __m512i lanes[16];
            for (int i = 0; i < kTokenTile; ++i) {
                const int t = tile * kTokenTile + i;
                lanes[i] = _mm512_setzero_si512();
                if (t >= x.count) continue;
                lanes[i] =
                    (__m512i)_mm512_cvtne2ps_pbh(floats_from(token(x, t), at + 16, x.columns),
                                                 floats_from(token(x, t), at, x.columns));
            }
            transpose(lanes);
            for (int i = 0; i < 16; ++i) _mm512_store_si512(out->value[part / 2 + i], lanes[i]);
        }
    }
}

struct Bf16Slab {
    using Packed = PackedBf16;
    using Slab = SlabBf16;
    static constexpr std::size_t kPackedColumns = kBf16Run, kColumns = kBf16Run;

    static void pack(const Tokens& x, int tile, Packed* packed) { pack_bf16(x, tile, packed); }

    static void unpack(const Rows& rows, std::size_t row, std::size_t column, int r, Slab& slab) {
        const std::size_t left = rows.columns - column, here = left < kColumns ? left : kColumns;
        prefetch_next<BF16, kColumns>(rows, row, column);
        std::memcpy(slab.weight[r], rows.first + row * rows.stride_bytes + 2 * column, 2 * here);
        std::memset(slab.weight[r] + here, 0, 2 * (kColumns - here));
    }
};

// In place, as add_fours().
inline __m512 add_twos(__m512 sums, __m512i weights, __m512i activations) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(activations));
    return sums;
}

struct Bf16Product : Bf16Slab {
    using Unit = NoUnit;

    template <int kRowsNow, int kTiles>
    static void multiply_rows(const Slab& slab, int row, const Packed* const (&x)[kTiles], int tile,
                              SlabSums& out) {
        __m512 y[kRowsNow][kTiles];
        for (int r = 0; r < kRowsNow; ++r)
            for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_load_ps(out.of[tile + t][row + r]);
        for (std::size_t k = 0; k < kBf16Run / 2; ++k) {
            __m512i b[kTiles];
            for (int t = 0; t < kTiles; ++t) b[t] = _mm512_load_si512(x[t]->value[k]);
            for (int r = 0; r < kRowsNow; ++r) {
                std::int32_t two;
                std::memcpy(&two, slab.weight[row + r] + 2 * k, 4);
                const __m512i a = _mm512_set1_epi32(two);
                for (int t = 0; t < kTiles; ++t) y[r][t] = add_twos(y[r][t], a, b[t]);
            }
        }
        for (int r = 0; r < kRowsNow; ++r)
            for (int t = 0; t < kTiles; ++t) _mm512_store_ps(out.of[tile + t][row + r], y[r][t]);
    }

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const Slab& slab, int count, const Batch<Packed>& batch, int tile,
                               SlabSums& sums) {
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = batch.of(tile + t);
        for (int row = 0; row < count; row += kRowsNow) {
            multiply_rows<kRowsNow, kTiles>(slab, row, x, tile, sums);
        }
    }

    template <class Between>
    static void multiply(const Slab& slab, std::size_t, int count, const Batch<Packed>& batch,
                         SlabSums& sums, const Between&) {
        for (int tile = 0, now; tile < batch.tiles; tile += now) {
            now = tiles_now(batch.tiles - tile);
            if (now == 3) multiply_tiles<8, 3>(slab, count, batch, tile, sums);
            if (now == 2) multiply_tiles<8, 2>(slab, count, batch, tile, sums);
            if (now == 1) multiply_tiles<16, 1>(slab, count, batch, tile, sums);
        }
    }
};

}  // namespace hybrid::HYBRID_TIER
