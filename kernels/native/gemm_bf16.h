// Many tokens times BF16 weights, activations rounded to bf16: products in float32.
#pragma once

#include "gemm_slab.h"
#if defined(HYBRID_AMX)
#include "amx_tiles.h"
#endif

namespace hybrid::HYBRID_TIER {

constexpr std::size_t kBf16Run = 128;  // columns

struct alignas(64) PackedBf16 {
    std::uint16_t value[kBf16Run / 2][kTokenTile][2];
};

inline std::size_t bf16_runs_of(std::size_t columns) {
    return (columns + kBf16Run - 1) / kBf16Run;
}

// From one row of a slab to the next; a line more than whole runs, as in float_row_stride().
inline std::size_t bf16_row_stride(std::size_t columns) {
    return bf16_runs_of(columns) * kBf16Run + 32;
}

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
    static std::size_t packed_per_tile(std::size_t columns) { return bf16_runs_of(columns); }
    static std::size_t slab_bytes(std::size_t columns) {
        return kSlabRows * bf16_row_stride(columns) * sizeof(std::uint16_t);
    }
    using Packed = PackedBf16;
    static void pack(const Tokens& x, int tile, Packed* packed) { pack_bf16(x, tile, packed); }

    static void unpack(const Rows& rows, std::size_t first, int count, void* slab) {
        const std::size_t stride = bf16_row_stride(rows.columns);
        for (int r = 0; r < count; ++r) {
            auto* out = static_cast<std::uint16_t*>(slab) + static_cast<std::size_t>(r) * stride;
            const std::size_t row = first + static_cast<std::size_t>(r);
            std::memcpy(out, rows.first + row * rows.stride_bytes, 2 * rows.columns);
            std::memset(out + rows.columns, 0, 2 * (stride - rows.columns));
        }
    }
};

// In place, as add_fours().
inline __m512 add_twos(__m512 sums, __m512i weights, __m512i activations) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(activations));
    return sums;
}

struct Bf16Product : Bf16Slab {
    using Unit = NoUnit;
    static constexpr int kTileStep = 3;

    template <int kRowsNow, int kTiles>
    static void multiply_run(const std::uint16_t* weights, std::size_t stride, int row,
                             const Packed* const (&x)[kTiles], SlabSums& out) {
        __m512 y[kRowsNow][kTiles];
        for (int r = 0; r < kRowsNow; ++r)
            for (int t = 0; t < kTiles; ++t) y[r][t] = _mm512_load_ps(out.of[row + r][t]);
        for (std::size_t k = 0; k < kBf16Run / 2; ++k) {
            __m512i b[kTiles];
            for (int t = 0; t < kTiles; ++t) b[t] = _mm512_load_si512(x[t]->value[k]);
            for (int r = 0; r < kRowsNow; ++r) {
                std::int32_t two;
                std::memcpy(&two, weights + static_cast<std::size_t>(r) * stride + 2 * k, 4);
                const __m512i a = _mm512_set1_epi32(two);
                for (int t = 0; t < kTiles; ++t) y[r][t] = add_twos(y[r][t], a, b[t]);
            }
        }
        for (int r = 0; r < kRowsNow; ++r)
            for (int t = 0; t < kTiles; ++t) _mm512_store_ps(out.of[row + r][t], y[r][t]);
    }

    template <int kRowsNow, int kTiles>
    static void multiply_tiles(const std::uint16_t* slab, std::size_t columns, int count,
                               const Packed* packed, Fetch& fetch, SlabSums& sums) {
        const std::size_t stride = bf16_row_stride(columns), per_tile = bf16_runs_of(columns);
        const Packed* x[kTiles];
        for (int t = 0; t < kTiles; ++t) x[t] = packed + static_cast<std::size_t>(t) * per_tile;
        for (std::size_t c = 0; c < columns; c += kBf16Run) {
            for (int row = 0; row < count; row += kRowsNow) {
                multiply_run<kRowsNow, kTiles>(slab + static_cast<std::size_t>(row) * stride + c,
                                               stride, row, x, sums);
                fetch.lines(kRowsNow * kBf16Run * 2 / 64);
            }
            for (int t = 0; t < kTiles; ++t) ++x[t];
        }
    }

    static void multiply(const void* slab, std::size_t columns, int count, const Packed* packed,
                         int tiles, Fetch& fetch, SlabSums& sums) {
        const auto* weights = static_cast<const std::uint16_t*>(slab);
        if (tiles == 3) multiply_tiles<4, 3>(weights, columns, count, packed, fetch, sums);
        if (tiles == 2) multiply_tiles<4, 2>(weights, columns, count, packed, fetch, sums);
        if (tiles == 1) multiply_tiles<8, 1>(weights, columns, count, packed, fetch, sums);
    }
};

#if defined(HYBRID_AMX)

struct Bf16Tiles : Bf16Slab {
    using Unit = TileUnit<64>;
    static constexpr int kTileStep = kTilesAtOnce;
    static constexpr std::size_t kSumStride = sizeof(SlabSums{}.of[0]);

    // All rows of the slab times one or two tiles of tokens, over one run of columns. Rows beyond
    // the real ones are multiplied as they are; nothing reads their sums.
    template <int kTiles>
    static void multiply_run(const std::uint16_t* weights, std::size_t stride, const Packed* first,
                             const Packed* last, int tile, SlabSums& out) {
        load_tile<0>(out.of[0][tile], kSumStride), load_tile<1>(out.of[16][tile], kSumStride);
        if constexpr (kTiles == 2) {
            load_tile<2>(out.of[0][tile + 1], kSumStride);
            load_tile<3>(out.of[16][tile + 1], kSumStride);
        }
        for (std::size_t c = 0; c < kBf16Run; c += 32) {
            load_tile<4>(weights + c, 2 * stride);
            load_tile<6>(first->value[c / 2], 64);
            add_bf16_products<0, 4, 6>();
            load_tile<5>(weights + 16 * stride + c, 2 * stride);
            add_bf16_products<1, 5, 6>();
            if constexpr (kTiles == 2) {
                load_tile<7>(last->value[c / 2], 64);
                add_bf16_products<2, 4, 7>();
                add_bf16_products<3, 5, 7>();
            }
        }
        store_tile<0>(out.of[0][tile], kSumStride), store_tile<1>(out.of[16][tile], kSumStride);
        if constexpr (kTiles == 2) {
            store_tile<2>(out.of[0][tile + 1], kSumStride);
            store_tile<3>(out.of[16][tile + 1], kSumStride);
        }
    }

    static void multiply(const void* slab, std::size_t columns, int, const Packed* packed,
                         int tiles, Fetch& fetch, SlabSums& sums) {
        const auto* weights = static_cast<const std::uint16_t*>(slab);
        const std::size_t stride = bf16_row_stride(columns), runs = bf16_runs_of(columns);
        for (std::size_t run = 0; run < runs; ++run, weights += kBf16Run) {
            const Packed* x = packed + run;
            int tile = 0;
            for (; tile + 2 <= tiles; tile += 2, x += 2 * runs) {
                multiply_run<2>(weights, stride, x, x + runs, tile, sums);
            }
            if (tile < tiles) multiply_run<1>(weights, stride, x, x, tile, sums);
            fetch.lines(kSlabRows * kBf16Run * 2 / 64);
        }
    }
};

#endif

}  // namespace hybrid::HYBRID_TIER
