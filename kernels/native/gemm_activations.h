// Tiles of 16 tokens for byte products: rounded as for a row's dot product, token by token, then
// turned so that one register holds four neighbouring columns of all 16 tokens.
#pragma once

#include "gemm_slab.h"

namespace hybrid::HYBRID_TIER {

// One run of 256 columns of a tile of tokens.
struct alignas(64) PackedNumbers {
    std::int8_t number[kRun / 4][kTokenTile][4];
    std::int16_t sum[8][kTokenTile][2];     // of each 16 numbers, two neighbouring sums together
    std::int16_t sum_32[4][kTokenTile][2];  // of each 32, likewise
};

struct Packed32s : PackedNumbers {
    float scale[8][kTokenTile];  // of each 32 columns
};

struct Packed256 : PackedNumbers {
    float scale[kTokenTile];
};

// 64 columns of 16 tokens, tokens `stride` bytes apart, as [16 groups of columns][token][4].
inline void turn_bytes(const std::int8_t* first, std::size_t stride, std::int8_t (*out)[16][4]) {
    __m512i lanes[16];
    for (int t = 0; t < 16; ++t) lanes[t] = _mm512_loadu_si512(first + t * stride);
    transpose(lanes);
    for (int k = 0; k < 16; ++k) _mm512_store_si512(out[k], lanes[k]);
}

// The sum of 16 neighbouring columns, for each token.
inline __m512i sum_of_16(const std::int8_t (*number)[16][4]) {
    __m512i sum = _mm512_setzero_si512();
    for (int k = 0; k < 4; ++k) {
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_load_si512(number[k]));
    }
    return sum;
}

// Words of `low`, then of `high`, in turn.
inline __m512i words_in_turn(__m512i low, __m512i high) {
    return _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16));
}

inline void add_sums(PackedNumbers& packed) {
    __m512i of_32[8];
    for (int pair = 0; pair < 8; ++pair) {
        const __m512i first = sum_of_16(packed.number + 8 * pair);
        const __m512i last = sum_of_16(packed.number + 8 * pair + 4);
        _mm512_store_si512(packed.sum[pair], words_in_turn(first, last));
        of_32[pair] = _mm512_add_epi32(first, last);
    }
    for (int i = 0; i < 4; ++i) {
        _mm512_store_si512(packed.sum_32[i], words_in_turn(of_32[2 * i], of_32[2 * i + 1]));
    }
}

inline void put_scales(const RunOf32s& run, int token, Packed32s& out) {
    for (int g = 0; g < 8; ++g) out.scale[g][token] = run.scale[g];
}

inline void put_scales(const RunOf256& run, int token, Packed256& out) {
    out.scale[token] = run.scale;
}

// One run of columns of one tile.
template <class Run, class Packed>
void pack_run(const Tokens& x, int tile, std::size_t first_column, Packed& out) {
    Run runs[kTokenTile];
    const std::size_t left = x.columns - first_column;
    for (int i = 0; i < kTokenTile; ++i) {
        const int t = tile * kTokenTile + i;
        if (t < x.count) {
            round_token(token(x, t) + first_column, left < kRun ? left : kRun, runs + i);
        } else {
            std::memset(static_cast<void*>(runs + i), 0, sizeof(Run));
        }
        put_scales(runs[i], i, out);
    }
    for (int part = 0; part < 4; ++part) {
        turn_bytes(runs[0].number + 64 * part, sizeof(Run), out.number + 16 * part);
    }
    add_sums(out);
}

template <class Run, class Packed>
void pack_tile(const Tokens& x, int tile, Packed* packed) {
    for (std::size_t c = 0; c < x.columns; c += kRun) pack_run<Run>(x, tile, c, *packed++);
}

}  // namespace hybrid::HYBRID_TIER
