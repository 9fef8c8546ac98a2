// The split kernel of decode attention for Hopper's wgmma: rows of 512 + 64 columns of 16 bits.
//
// A block holds 64 heads and walks its rows of the cache in tiles of 64. Three tiles are in shared
// memory: one is being scored, one being summed, one on its way.
//
//   scores warpgroup    queries in registers; scores of a tile, their softmax, weights to shared
//                       memory
//   values warpgroups   256 columns each: sum = sum * shrink + weights . tile; ask for another
//                       tile in its place
//
// The scores are the longer chain, and products of both at once would each take twice as long. So
// weights are given only once the next tile's scores are on their way: values are summed beside the
// softmax, which needs no tensor cores. Heads beyond the last are rows that nobody reads; what
// stands in them may be anything.
#include "attention/split_hopper.h"
#include "attention/split_hopper_queries.h"

namespace hybrid {

// Asks for one tile's scores [64 heads, 64 rows].
template <bool BFLOAT>
DEVICE void score_tile(float (&score)[32], const uint32_t (&query)[kHeld][4],
                       const SplitShared& shared, uint32_t tile) {
    const Operand rows = operand(tile, kBoxBytes);
    const Operand boxed = operand(shared.boxed_queries, kBoxBytes);
    begin_products();
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
        const uint64_t columns = rows.at(k / 4 * kBoxBytes + k % 4 * 32);
        if (k < kHeld) {
            multiply_rows<BFLOAT>(score, query[k], columns, k > 0);
        } else if (k == kHeld) {
            multiply_rows<BFLOAT>(score, narrow_operand(shared.narrow_queries).at(0), columns, 1);
        } else {
            multiply_rows<BFLOAT>(score, boxed.at(k % 4 * 32), columns, 1);
        }
    }
    close_products();
}

// Of a thread's two heads, row and row + 8 of the block's.
struct Softmax {
    float2 to_base_2, largest, total;

    // Weights 2^(score - largest) as pairs of 16 bits; returns what earlier sums shrink by.
    template <bool BFLOAT>
    __device__ __forceinline__ float2 weigh(float (&score)[32], uint32_t (&pair)[16]) {
        float2 grown = make_float2(score[0], score[2]);
#pragma unroll
        for (int i = 0; i < 32; i += 4) {
            grown.x = max(grown.x, max(score[i], score[i + 1]));
            grown.y = max(grown.y, max(score[i + 2], score[i + 3]));
        }
        grown.x *= to_base_2.x, grown.y *= to_base_2.y;
        float2 shrink = make_float2(1, 1);
        if (warp_any(grown.x > largest.x + kSlack || grown.y > largest.y + kSlack)) {
#pragma unroll
            for (int lanes = 1; lanes < 4; lanes *= 2) {
                grown.x = max(grown.x, shuffle_xor(grown.x, lanes));
                grown.y = max(grown.y, shuffle_xor(grown.y, lanes));
            }
            grown.x = max(grown.x, largest.x), grown.y = max(grown.y, largest.y);
            shrink = make_float2(fast_exp2(largest.x - grown.x), fast_exp2(largest.y - grown.y));
            largest = grown;
            total = make_float2(total.x * shrink.x, total.y * shrink.y);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float* four = score + 4 * i;
            const float a = fast_exp2(fmaf(four[0], to_base_2.x, -largest.x));
            const float b = fast_exp2(fmaf(four[1], to_base_2.x, -largest.x));
            const float c = fast_exp2(fmaf(four[2], to_base_2.y, -largest.y));
            const float d = fast_exp2(fmaf(four[3], to_base_2.y, -largest.y));
            total.x += a + b;
            total.y += c + d;
            pair[2 * i] = pack_pair<BFLOAT>(a, b);
            pair[2 * i + 1] = pack_pair<BFLOAT>(c, d);
        }
        return shrink;
    }
};

// By every warp of the scores, for what it has stored long before: nobody waits for its stores.
DEVICE void give_weights(const SplitShared& shared, int tile) {
    show_to_engines();
    warp_all(true);
    if (lane_index() == 0) arrive(shared.weighed + 8 * (tile % 2));
}

template <bool BFLOAT>
DEVICE void run_scores(const SplitRecord& record, const SplitShared& shared, const SplitRows& rows,
                       int token) {
    const int lane = lane_index(), row = warp_index() * 16 + lane / 4;
    uint32_t query[kHeld][4];
    // The four tiles of a product's operand: rows 0 and 8, then the same 8 columns on.
    const uint32_t from =
        shared.queries + (warp_index() * 16 + lane % 16) * kQueryPitch + lane / 16 * 16;
#pragma unroll
    for (int k = 0; k < kHeld; ++k) load_tiles(query[k], from + k * 32);
    const float kNothing = bits_float(0xff800000u);
    Softmax softmax = {make_float2(load_float(shared.to_base_2 + 4 * row),
                                   load_float(shared.to_base_2 + 4 * row + 32)),
                       make_float2(kNothing, kNothing), make_float2(0, 0)};
    show_to_engines();
    meet(kScoresMeet, kWarpgroup);  // all queries and factors are in registers
    if (threadIdx.x == 0) ask_for_tiles(record, shared, rows, kFirstTiles + 1, kTiles);

    for (int tile = 0; tile < rows.tiles; ++tile) {
        const int place = tile % kTiles, odd = tile % 2;
        wait_for_phase(shared.loaded + 8 * place, tile / kTiles & 1);
        float score[32];
        score_tile<BFLOAT>(score, query, shared, shared.tiles + place * kTileBytes);
        if (tile > 0) give_weights(shared, tile - 1);
        wait_for_products<0>();
        if (lane == 0) arrive(shared.scored);
        if (tile == rows.tiles - 1) {
            const int known = rows.count - tile * kRows - lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < 32; ++i)
                if (i / 4 * 8 + i % 2 >= known) score[i] = kNothing;
        }
        uint32_t pair[16];
        const float2 shrink = softmax.weigh<BFLOAT>(score, pair);
        wait_for_phase(shared.scored, odd);  // no warp reads the tile's last box any more
        // Its shrink takes the place of that of the tile before last, which is summed since long.
        if (tile > 1) wait_for_phase(shared.summed + 8 * odd, (tile - 2) / 2 & 1);
        // A thread's columns 8 j + lane % 4 * 2 in the copy engine's swizzle.
        const uint32_t to = shared.weights(tile) + row * 128 + lane % 4 * 4;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const uint32_t at = to + ((j ^ row & 7) << 4);
            store_word(at, pair[2 * j]);
            store_word(at + 8 * 128, pair[2 * j + 1]);
        }
        if (lane % 4 == 0) {
            store_float(shared.shrink + 4 * (odd * kHeads + row), shrink.x);
            store_float(shared.shrink + 4 * (odd * kHeads + row) + 32, shrink.y);
        }
    }
    give_weights(shared, rows.tiles - 1);
    put_statistics(record, shared, row, token, softmax.largest, softmax.total);
    meet(kEndMeet, kThreads);
}

template <bool BFLOAT>
DEVICE void run_values(const SplitRecord& record, const SplitShared& shared, const SplitRows& rows,
                       int token) {
    const int side = threadIdx.x / kWarpgroup - 1, warp = warp_index() % 4;
    const int row = warp * 16 + lane_index() / 4;
    float sum[128];
    for (int tile = 0; tile < rows.tiles; ++tile) {
        const int odd = tile % 2;
        wait_for_phase(shared.weighed + 8 * odd, tile / 2 & 1);
        const uint32_t shrink = shared.shrink + 4 * (odd * kHeads + row);
        const float upper = load_float(shrink), lower = load_float(shrink + 4 * 8);
        if (tile > 0 && warp_any(upper != 1 || lower != 1)) {
#pragma unroll
            for (int i = 0; i < 128; ++i) sum[i] *= i % 4 < 2 ? upper : lower;
        }
        const uint32_t at = shared.tiles + tile % kTiles * kTileBytes + side * 4 * kBoxBytes;
        const Operand values = operand(at, kBoxBytes);
        const Operand weights = operand(shared.weights(tile), kBoxBytes);
        begin_products();
#pragma unroll
        for (int k = 0; k < kRows / 16; ++k) {
            multiply_columns<BFLOAT>(sum, weights.at(k * 32), values.at(k * 2048),
                                     tile > 0 || k > 0);
        }
        close_products();
        wait_for_products<0>();
        if (lane_index() == 0) arrive(shared.summed + 8 * odd);
        if (threadIdx.x == kWarpgroup && tile + kTiles < rows.tiles) {
            wait_for_phase(shared.summed + 8 * odd, tile / 2 & 1);
            ask_for_tiles(record, shared, rows, tile + kTiles, tile + kTiles + 1);
        }
    }
    meet(kEndMeet, kThreads);  // nobody reads tiles any more
    put_values<BFLOAT>(record, shared, sum, shared.tiles + (side * 4 + warp) * 16 * kOutPitch,
                       token, side);
}

// Grid: groups of 64 heads, splits, tokens.
template <bool BFLOAT>
__global__ void __launch_bounds__(kThreads, 1)
    split_hopper(const __grid_constant__ SplitRecord record) {
    SWIZZLED_SHARED(swizzled);
    const SplitShared shared(swizzled);
    const int token = blockIdx.z;
    const SplitRows rows(record, token);
    const int early_tiles = min(rows.old_tiles, kFirstTiles);
    if (threadIdx.x == 0 && rows.tiles > 0) {
        prefetch_map(&record.rows);
        start_barriers(shared);
        ask_for_tiles(record, shared, rows, 0, early_tiles);
    }
    wait_for_previous();
    let_next_start();
    if (rows.tiles <= 0) return;
    if (threadIdx.x == 0) ask_for_tiles(record, shared, rows, early_tiles, kFirstTiles);
    put_queries<BFLOAT>(record, shared, token);
    show_to_engines();
    __syncthreads();
    if (threadIdx.x == 0) ask_for_tiles(record, shared, rows, kFirstTiles, kFirstTiles + 1);
    if (threadIdx.x < kWarpgroup) {
        take_registers<kScoreRegisters>();
        run_scores<BFLOAT>(record, shared, rows, token);
    } else {
        give_registers<kValueRegisters>();
        run_values<BFLOAT>(record, shared, rows, token);
    }
}

}  // namespace hybrid
