// What split_hopper.cu is given, its shared memory, its rows, and how it leaves results.
#pragma once

#include "cuda/device_hopper.h"

namespace hybrid {

constexpr int kLatent = 512, kColumns = 576;
constexpr int kHeads = 64, kRows = 64;  // of a block, of a tile
constexpr int kThreads = 3 * kWarpgroup, kWarps = kThreads / kWarp;
constexpr int kTiles = 3;       // in shared memory
constexpr int kFirstTiles = 1;  // beside the queries, which lie in the others' places at first
constexpr int kBoxes = kColumns / 64, kBoxBytes = kRows * 128, kTileBytes = kBoxes * kBoxBytes;
// Groups of 16 columns of queries: in registers, of which no more are left; one alone and a whole
// box of 4 in shared memory.
constexpr int kHeld = 31, kHeldColumns = kHeld * 16, kBoxedColumns = 512;
constexpr int kQueryLoads = 2 * kColumns / (4 * kWarp);  // of 16 bytes, by a warp for two heads
// Rows of 16-byte units whose number is odd: neighbouring rows begin in different banks.
constexpr int kQueryPitch = kHeldColumns * 2 + 16, kOutPitch = kLatent + 16;
constexpr int kScoreRegisters = 184, kValueRegisters = 160;  // 168 each in the beginning
// Weights are 2^(score - some score), which is replaced when one is 2^8 times greater: so sums
// seldom shrink, and float16 holds a weight as exactly as before.
constexpr float kSlack = 8;
constexpr int kScoresMeet = 1, kEndMeet = 2;

struct SplitRecord {
    TensorMap rows;  // of the cache: 9 boxes of 64 columns, of 64 rows, in the swizzle of 128 bytes
    const float* q;  // [tokens, heads, 576]
    const int32_t* seen;       // [tokens]
    const int64_t* first_row;  // [tokens], or null: sequences start at row 0
    void* partial;             // [tokens, heads, splits, 512], 16 bits
    float* statistics;         // [tokens, heads, splits, 2]
    float scale;
    int32_t heads;
    int32_t min_tokens;
    int32_t granule;
    int64_t padding;
};

// Shared memory of a block, as addresses of the shared window; `gpu_wgmma.py` counts the same
// bytes. The last box of a tile holds the columns that are no values: once all scores of the tile
// are there, the weights [64 heads][64 rows] take its place.
struct SplitShared {
    uint32_t tiles;                    // [3][9 boxes][64 rows][128 bytes]
    uint32_t staged;                   // [32][576] floats, over the second tile
    uint32_t queries;                  // [64][1008 bytes], over the last tile
    uint32_t boxed_queries;            // [64][64 columns] as a box
    uint32_t narrow_queries;           // [64][16] in a swizzle of 32 bytes
    uint32_t loaded, weighed, summed;  // barriers: of 3 tiles; of even and of odd tiles
    uint32_t scored, fetched;          // barriers: of every tile; of staged queries
    uint32_t shrink, inverse;          // floats: [even, odd tile][64 heads], [64]
    uint32_t to_base_2;                // floats [64], over the first tile's shrink

    __device__ __forceinline__ explicit SplitShared(const void* dynamic)
        : tiles(shared_address(dynamic)),
          staged(tiles + kTileBytes),
          queries(staged + kTileBytes),
          boxed_queries(tiles + kTiles * kTileBytes),
          narrow_queries(boxed_queries + kHeads * 128),
          loaded(narrow_queries + kHeads * 32),
          weighed(loaded + kTiles * 8),
          summed(weighed + 2 * 8),
          scored(summed + 2 * 8),
          fetched(scored + 8),
          shrink(fetched + 8),
          inverse(shrink + 2 * 4 * kHeads),
          to_base_2(shrink) {}

    __device__ __forceinline__ uint32_t weights(int tile) const {
        return tiles + tile % kTiles * kTileBytes + (kBoxes - 1) * kBoxBytes;
    }
};

// Of the block's heads, [at most 64, 576].
DEVICE const float* first_query(const SplitRecord& record, int token) {
    return record.q + (static_cast<int64_t>(token) * record.heads + blockIdx.x * kHeads) * kColumns;
}

// A block's rows of the cache.
struct SplitRows {
    int first, count, tiles;
    int old_tiles;  // hold no row that this step has written: those are its tokens' at most

    __device__ __forceinline__ SplitRows(const SplitRecord& record, int token) {
        const int seen = record.seen[token], splits = gridDim.y;
        const int share = (seen + splits - 1) / splits;
        const int rounded = (share + record.granule - 1) / record.granule * record.granule;
        const int each = max(record.min_tokens, rounded), begin = blockIdx.y * each;
        count = min(each, seen - begin);
        tiles = count > 0 ? (count + kRows - 1) / kRows : 0;
        const int old = seen - static_cast<int>(gridDim.z) - begin;
        old_tiles = min(tiles, max(old, 0) / kRows);
        first = begin + (record.first_row ? static_cast<int>(record.first_row[token]) : 0);
    }
};

// By one thread.
DEVICE void start_barriers(const SplitShared& shared) {
#pragma unroll
    for (int place = 0; place < kTiles; ++place) start_barrier(shared.loaded + 8 * place, 1);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        start_barrier(shared.weighed + 8 * half, kWarpgroup / kWarp);
        start_barrier(shared.summed + 8 * half, 2 * kWarpgroup / kWarp);
    }
    start_barrier(shared.scored, kWarpgroup / kWarp);
    start_barrier(shared.fetched, 1);
    show_barriers();
    show_to_engines();
}

// Tiles first .. end - 1 as far as there are any, by one thread; their places are free.
DEVICE void ask_for_tiles(const SplitRecord& record, const SplitShared& shared,
                          const SplitRows& rows, int first, int end) {
#pragma unroll 1
    for (int tile = first; tile < min(end, rows.tiles); ++tile) {
        const int place = tile % kTiles;
        const uint32_t barrier = shared.loaded + 8 * place;
        arrive_and_expect(barrier, kTileBytes);
        copy_rows(shared.tiles + place * kTileBytes, &record.rows, rows.first + tile * kRows,
                  barrier);
    }
}

// Of a thread's two heads, row and row + 8 of the group; four lanes have a part of total each.
DEVICE void put_statistics(const SplitRecord& record, const SplitShared& shared, int row, int token,
                           float2 largest, float2 total) {
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
        total.x += shuffle_xor(total.x, lanes);
        total.y += shuffle_xor(total.y, lanes);
    }
    if (lane_index() % 4 != 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int head = blockIdx.x * kHeads + row + 8 * i;
        const float sum = i ? total.y : total.x;
        store_float(shared.inverse + 4 * (row + 8 * i), 1 / sum);
        if (head >= record.heads) continue;
        const int64_t at =
            (static_cast<int64_t>(token) * record.heads + head) * gridDim.y + blockIdx.y;
        *reinterpret_cast<float2*>(record.statistics + 2 * at) =
            make_float2(i ? largest.y : largest.x, sum);
    }
}

// A warp's 16 heads and 256 columns, divided by the heads' sums, through its own room of shared
// memory, so that it writes whole lines.
template <bool BFLOAT>
DEVICE void put_values(const SplitRecord& record, const SplitShared& shared,
                       const float (&sum)[128], uint32_t room, int token, int half) {
    const int lane = lane_index(), first = warp_index() % 4 * 16, row = lane / 4;
    const uint32_t inverse = shared.inverse + 4 * (first + row);
    const float upper = load_float(inverse), lower = load_float(inverse + 4 * 8);
    const uint32_t to = room + row * kOutPitch + lane % 4 * 4;
#pragma unroll
    for (int j = 0; j < 32; ++j) {
        const float* four = sum + j * 4;
        store_word(to + j * 16, pack_pair<BFLOAT>(four[0] * upper, four[1] * upper));
        store_word(to + 8 * kOutPitch + j * 16,
                   pack_pair<BFLOAT>(four[2] * lower, four[3] * lower));
    }
    warp_all(true);
    const int group = blockIdx.x * kHeads + first;
    unsigned char* out = static_cast<unsigned char*>(record.partial);
    constexpr int kAtOnce = 8;  // loads that are waited for together
    const int64_t at =
        (static_cast<int64_t>(token) * record.heads + group) * gridDim.y + blockIdx.y;
    out += (at * kLatent + half * 256) * 2 + lane * 16;
    const int64_t pitch = static_cast<int64_t>(gridDim.y) * kLatent * 2;
#pragma unroll
    for (int i = 0; i < 16; i += kAtOnce) {
        uint4 words[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j)
            words[j] = load_words(room + (i + j) * kOutPitch + lane * 16);
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            if (group + i + j < record.heads)
                *reinterpret_cast<uint4*>(out + (i + j) * pitch) = words[j];
        }
    }
}

}  // namespace hybrid
