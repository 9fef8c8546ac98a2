// Many tokens by the tile unit's bf16 products, for every format in blocks and BF16: weights as
// they decode and activations, each rounded once to bf16, are multiplied and summed in float32.
//
// That errs by a quarter of what rounding activations to eight bits does, and no scale has to be
// applied to sums: they stay in the unit over a slab's columns, where byte products would leave it
// with each scale.
#pragma once

#include "amx_tiles.h"
#include "gemm_bf16.h"
#include "gemm_vnni.h"

namespace hybrid::HYBRID_TIER {

struct Bf16Tiles : Bf16Slab {
    using Unit = TileUnit;

    // All rows of the slab times one or two tiles of tokens. Rows beyond the real ones are
    // multiplied as they are; nothing reads their sums.
    template <int kTiles, class Between>
    static void multiply_tiles(const Slab& slab, const Packed* first, const Packed* last, int tile,
                               SlabSums& out, const Between& between) {
        load_tile<0>(out.of[tile][0], 64), load_tile<1>(out.of[tile][16], 64);
        if constexpr (kTiles == 2) {
            load_tile<2>(out.of[tile + 1][0], 64), load_tile<3>(out.of[tile + 1][16], 64);
        }
        for (std::size_t c = 0; c < kBf16Run; c += 32) {
            load_tile<4>(slab.weight[0] + c, sizeof slab.weight[0]);
            load_tile<6>(first->value[c / 2], 64);
            add_bf16_products<0, 4, 6>();
            load_tile<5>(slab.weight[16] + c, sizeof slab.weight[0]);
            add_bf16_products<1, 5, 6>();
            if constexpr (kTiles == 2) {
                load_tile<7>(last->value[c / 2], 64);
                add_bf16_products<2, 4, 7>();
                add_bf16_products<3, 5, 7>();
            }
            between(tile * kBf16Run + kTiles * (c + 32));
        }
        store_tile<0>(out.of[tile][0], 64), store_tile<1>(out.of[tile][16], 64);
        if constexpr (kTiles == 2) {
            store_tile<2>(out.of[tile + 1][0], 64), store_tile<3>(out.of[tile + 1][16], 64);
        }
    }

    template <class Between>
    static void multiply(const Slab& slab, std::size_t, int, const Batch<Packed>& batch,
                         SlabSums& sums, const Between& between) {
        const std::size_t all = static_cast<std::size_t>(batch.tiles) * kBf16Run;
        const auto after = [&](std::size_t done) { between(done, all); };
        int tile = 0;
        for (; tile + 2 <= batch.tiles; tile += 2) {
            multiply_tiles<2>(slab, batch.of(tile), batch.of(tile + 1), tile, sums, after);
        }
        if (tile < batch.tiles) {
            multiply_tiles<1>(slab, batch.of(tile), batch.of(tile), tile, sums, after);
        }
    }
};

// 256 weights of a row: number * scale + minimum, the last two of each 16. Products are exact in
// float32, so that the sums are the very floats of decode().
struct alignas(64) SignedRun {
    std::int8_t number[kRun];
    float scale[16], minimum[16];
};

inline Bytes signed_bytes(Bytes numbers, int offset) {
    return _mm512_sub_epi8(numbers, all_bytes(offset));
}

inline Bytes signed_bytes(const Signed& numbers, int) {
    return flip(numbers.magnitude, numbers.negative);
}

inline __m512 floats_of_words(__m256i words, float factor) {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words)), _mm512_set1_ps(factor));
}

// Each of eight floats twice.
inline __m512 each_twice(Floats8 values) {
    return _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0),
                                 _mm512_castps256_ps512(values));
}

// A block of 256 weights, or eight of 32.
template <class Block>
void read_run(const Block* block, SignedRun& out) {
    if constexpr (Block::kWeights == 256) {
        for (int quarter = 0; quarter < 4; ++quarter) {
            store_bytes(signed_bytes(block->numbers(quarter), Block::kOffset),
                        out.number + 64 * quarter);
        }
        _mm512_store_ps(out.scale, floats_of_words(block->scale_numbers(), block->factor()));
        if constexpr (requires_minimum<Block>(0)) {
            _mm512_store_ps(out.minimum,
                            floats_of_words(block->minimum_numbers(), -block->minimum_factor()));
        }
    } else {
        for (int pair = 0; pair < 4; ++pair) {
            store_bytes(signed_bytes(Block::numbers(block + 2 * pair), Block::kOffset),
                        out.number + 64 * pair);
        }
        _mm512_store_ps(out.scale, each_twice(Block::scales(block)));
        if constexpr (requires_minimums<Block>(0)) {
            _mm512_store_ps(out.minimum, each_twice(Block::minimums(block)));
        }
    }
}

template <class Block>
constexpr bool kHasMinimums = requires_minimum<Block>(0) || requires_minimums<Block>(0);

template <bool kMinimums>
inline __m512 sixteen_weights(const SignedRun& run, int k) {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(run.number + 16 * k));
    const __m512 number = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
    const __m512 scale = _mm512_set1_ps(run.scale[k]);
    if constexpr (kMinimums) {
        return _mm512_fmadd_ps(number, scale, _mm512_set1_ps(run.minimum[k]));
    } else {
        return _mm512_mul_ps(number, scale);
    }
}

template <class Block>
void unpack_bf16(const Block* block, std::uint16_t* out) {
    SignedRun run;
    read_run(block, run);
#pragma GCC unroll 8
    for (int k = 0; k < 16; k += 2) {
        const __m512 first = sixteen_weights<kHasMinimums<Block>>(run, k);
        const __m512 last = sixteen_weights<kHasMinimums<Block>>(run, k + 1);
        _mm512_store_si512(out + 16 * k, (__m512i)_mm512_cvtne2ps_pbh(last, first));
    }
}

template <class Block>
constexpr auto has_values(int) -> decltype(&Block::kValues, true) {
    return true;
}
template <class Block>
constexpr bool has_values(long) {
    return false;
}

inline void store_halves(__m512i weights, std::uint16_t* low, std::uint16_t* high) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(low), _mm512_castsi512_si256(weights));
    _mm256_store_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(weights, 1));
}

// The same of eight blocks of nibbles: the sixteen weights that a block can have are computed, and
// chosen from, two blocks at a time.
template <class Block>
void choose_bf16(const Block* block, std::uint16_t* out) {
    const __m512 values = _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(Block::kValues))));
    const __m512i last_table = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    alignas(32) float scale[8], minimum[8] = {};
    store8(Block::scales(block), scale);
    if constexpr (kHasMinimums<Block>) store8(Block::minimums(block), minimum);
    const auto weights = [&](int k) {
        const __m512 scaled = _mm512_set1_ps(scale[k]);
        if constexpr (!kHasMinimums<Block>) return _mm512_mul_ps(values, scaled);
        return _mm512_fmadd_ps(values, scaled, _mm512_set1_ps(minimum[k]));
    };
#pragma GCC unroll 4
    for (int k = 0; k < 8; k += 2) {
        const auto table = (__m512i)_mm512_cvtne2ps_pbh(weights(k + 1), weights(k));
        const __m256i nibbles =
            _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(block[k + 1].nibbles),
                                reinterpret_cast<const __m128i*>(block[k].nibbles));
        const __m512i words = _mm512_cvtepu8_epi16(nibbles);
        const __m512i low = _mm512_and_si512(words, _mm512_set1_epi16(15));
        const __m512i high = _mm512_srli_epi16(words, 4);
        std::uint16_t* at = out + 32 * k;
        store_halves(_mm512_permutexvar_epi16(_mm512_or_si512(low, last_table), table), at,
                     at + 32);
        store_halves(_mm512_permutexvar_epi16(_mm512_or_si512(high, last_table), table), at + 16,
                     at + 48);
    }
}

template <class Block>
struct BlockTiles : Bf16Tiles {
    static void unpack(const Rows& rows, std::size_t row, std::size_t column, int r, Slab& slab) {
        const Block* block = blocks_at<Block>(rows, row, column);
        const std::size_t left = rows.columns - column;
        prefetch_next<Block, kRun>(rows, row, column);
        if (Block::kWeights == 256 || left >= kRun) return unpack_run(block, slab.weight[r]);
        Block padded[kRun / Block::kWeights] = {};
        std::memcpy(padded, block, left / Block::kWeights * sizeof(Block));
        unpack_run(padded, slab.weight[r]);
    }

  private:
    static void unpack_run(const Block* block, std::uint16_t* out) {
        if constexpr (has_values<Block>(0)) {
            choose_bf16(block, out);
        } else {
            unpack_bf16(block, out);
        }
    }
};

// Byte products for few tokens, tiles for many: with less than kFrom tokens the tile unit does not
// repay weights that are unpacked to twice as many bytes.
template <class Few, class Many, int kFrom>
struct FewOrMany {
    static std::size_t larger_of(std::size_t a, std::size_t b) { return a < b ? b : a; }

    static std::size_t packed_bytes(std::size_t columns, int tokens) {
        return larger_of(product_packed_bytes<Few>(columns, tokens),
                         product_packed_bytes<Many>(columns, tokens));
    }
    static std::size_t scratch_bytes(std::size_t columns) {
        return larger_of(product_scratch_bytes<Few>(columns), product_scratch_bytes<Many>(columns));
    }
    static void pack(const Tokens& x, int tile_begin, int tile_end, void* packed) {
        if (x.count < kFrom) return product_pack<Few>(x, tile_begin, tile_end, packed);
        product_pack<Many>(x, tile_begin, tile_end, packed);
    }
    static void multiply(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                         int tokens, void* scratch, const Outputs& y) {
        if (tokens < kFrom)
            return product_multiply<Few>(rows, begin, end, packed, tokens, scratch, y);
        product_multiply<Many>(rows, begin, end, packed, tokens, scratch, y);
    }
    static constexpr TokenProduct product(int from_tokens) {
        return {packed_bytes, scratch_bytes, pack, multiply, from_tokens};
    }
};

// Measured for 1408 x 2048 weights read from memory (docs/log.md).
template <class Block>
constexpr TokenProduct bytes_or_tiles(int from_tokens) {
    if constexpr (Block::kWeights == 256) {
        return FewOrMany<SuperProduct<Block>, BlockTiles<Block>, 32>::product(from_tokens);
    } else {
        return FewOrMany<SmallProduct<Block>, BlockTiles<Block>, 48>::product(from_tokens);
    }
}

}  // namespace hybrid::HYBRID_TIER
