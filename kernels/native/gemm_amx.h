// Many tokens by the tile unit's bf16 products, for every format in blocks and BF16: weights as
// they decode and activations, each rounded once to bf16, are multiplied and summed in float32.
//
// That errs by a quarter of what rounding activations to eight bits does, and no scale has to be
// applied to sums: they stay in the unit over a slab's columns, where byte products would leave it
// with each scale.
#pragma once

#include "amx_tiles.h"
#include "gemm_bf16.h"
#include "gemm_bf16_weights.h"
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

template <class Block>
struct BlockTiles : Bf16Tiles {
    static void unpack(const Rows& rows, std::size_t row, std::size_t column, int r, Slab& slab) {
        const Block* block = blocks_at<Block>(rows, row, column);
        const std::size_t left = rows.columns - column;
        prefetch_next<Block, kRun>(rows, row, column);
        if (Block::kWeights == 256 || left >= kRun) return unpack_bf16(block, slab.weight[r]);
        Block padded[kRun / Block::kWeights] = {};
        std::memcpy(padded, block, left / Block::kWeights * sizeof(Block));
        unpack_bf16(padded, slab.weight[r]);
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
