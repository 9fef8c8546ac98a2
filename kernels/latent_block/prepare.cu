// What stands between the projections of a decode step and its attention, in one launch:
//
//     blocks 0 .. tokens - 1     the cache row of a token (new_row.h)
//     rope_blocks more           rotated parts of all queries, a thread for a pair
//     heads x tiles more         q_latent[t, head] = W_key[head]' q_nope[t, head], some latent
//                                values of a head for all tokens
//
// The blocks differ in what they wait for and how long they take, and all fit on the GPU at once.
#include "latent_block/head_rows.h"
#include "latent_block/new_row.h"

namespace hybrid {

struct PrepareRecord {
    Matrix key;       // [heads, latent, nope], or [heads, nope, latent]: see absorb_untransposed
    const float* q;   // [tokens, heads, nope + rope]
    float* q_latent;  // [tokens, heads, latent + rope]
    NewRows fresh;
    Angles angles;
    int32_t tokens, heads, nope;
    int32_t head_rows;  // from a head's first row to the next head's
    int32_t rope_blocks;
    int32_t tiles;        // of a head
    int32_t tile_values;  // latent values of a tile
    int32_t lane_bits;    // 2^lane_bits threads share a row

    __device__ __forceinline__ const float* query(int token, int head) const {
        return q + static_cast<int64_t>(token * heads + head) * (nope + angles.rope);
    }
    __device__ __forceinline__ float* absorbed(int token, int head) const {
        return q_latent + static_cast<int64_t>(token * heads + head) * (fresh.latent + angles.rope);
    }
};

DEVICE void rotate_queries(const PrepareRecord& record, int block) {
    const int pairs = record.angles.rope / 2;
    const int at = block * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    wait_for_previous();
    let_next_start();
    if (at >= record.tokens * record.heads * pairs) return;
    const int pair = at % pairs, head = at / pairs % record.heads,
              token = at / pairs / record.heads;
    const float* from = record.query(token, head) + record.nope + 2 * pair;
    float* to = record.absorbed(token, head) + record.fresh.latent + 2 * pair;
    const float2 turned = record.angles.rotate(from[0], from[1], token, pair);
    to[0] = turned.x;
    to[1] = turned.y;
}

// The queries of a head into shared memory; tokens that are not there are zeros.
template <class Format, int TOKENS, int THREADS>
DEVICE void put_queries(const PrepareRecord& record, int head, void* shared) {
    const int nope = record.nope, groups = (nope + 31) / 32;
    const int all = TOKENS * groups;
    for (int first = 0; first < all; first += THREADS / 8) {
        const int at = min(first + static_cast<int>(threadIdx.x) / 8, all - 1);
        const int token = TOKENS == 1 ? 0 : at / groups, group = at - token * groups;
        const int column = group * 32 + lane_index() % 8 * 4;
        float four[4] = {0, 0, 0, 0};
        if (token < record.tokens) {
            const float* from = record.query(token, head);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (column + i < nope) four[i] = from[column + i];
        }
        HeadInput<Format>::put(shared, nope, token, group,
                               make_float4(four[0], four[1], four[2], four[3]));
    }
    __syncthreads();
}

// A row of the weight for each latent value.
template <class Format, int TOKENS, int THREADS>
DEVICE void absorb_transposed(const PrepareRecord& record, int head, int tile, void* shared) {
    const int first = tile * record.tile_values;
    const HeadSpan span = {static_cast<int64_t>(head) * record.head_rows,        first,
                           min(first + record.tile_values, record.fresh.latent), 0,
                           (record.nope + Format::kUnit - 1) / Format::kUnit,    record.lane_bits};
    HeadProducts<Format, TOKENS, THREADS> products(record.key, span);
    wait_for_previous();
    let_next_start();
    put_queries<Format, TOKENS, THREADS>(record, head, shared);
    products.run(shared, record.nope, [&](int row, int token, float sum) {
        if (token < record.tokens) record.absorbed(token, head)[row] = sum;
    });
}

// A column of the weight for each latent value: rows are summed, in floats, since a row's scale
// belongs to one term of the sum. A block takes 32 columns and kRows rows at a time, decoded into
// shared memory; a warp adds every eighth row, a lane for a column.
template <class Format, int TOKENS, int THREADS>
DEVICE void absorb_untransposed(const PrepareRecord& record, int head, int group, float* shared) {
    constexpr int kRows = 128, kPitch = 33, kWarps = THREADS / kWarp;
    float* weights = shared;                 // [kRows][kPitch]
    float* sums = weights + kRows * kPitch;  // [kWarps][TOKENS][32]
    float* x = sums + kWarps * TOKENS * 32;  // [TOKENS][nope]
    const int nope = record.nope, thread = threadIdx.x, lane = lane_index(), warp = warp_index();
    const int64_t head_row = static_cast<int64_t>(head) * record.head_rows;
    float sum[TOKENS] = {};
    for (int first = 0; first < nope; first += kRows) {
        if (thread < min(kRows, nope - first)) {
            float row[32];
            load_weights<Format>(record.key, head_row + first + thread, group, row);
#pragma unroll
            for (int i = 0; i < 32; ++i) weights[thread * kPitch + i] = row[i];
        }
        if (first == 0) {
            wait_for_previous();
            let_next_start();
            for (int at = thread; at < TOKENS * nope; at += THREADS) {
                const int token = at / nope;
                x[at] = token < record.tokens ? record.query(token, head)[at % nope] : 0.0f;
            }
        }
        __syncthreads();
        for (int row = warp; row < min(kRows, nope - first); row += kWarps) {
#pragma unroll
            for (int t = 0; t < TOKENS; ++t)
                sum[t] += weights[row * kPitch + lane] * x[t * nope + first + row];
        }
        __syncthreads();
    }
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) sums[(warp * TOKENS + t) * 32 + lane] = sum[t];
    __syncthreads();
    const int column = group * 32 + lane;
    for (int token = warp; token < record.tokens; token += kWarps) {
        float total = 0;
        for (int w = 0; w < kWarps; ++w) total += sums[(w * TOKENS + token) * 32 + lane];
        if (column < record.fresh.latent) record.absorbed(token, head)[column] = total;
    }
}

template <class Format, bool TRANSPOSED, int TOKENS, int THREADS>
__global__ void __launch_bounds__(THREADS, 2) prepare(const PrepareRecord record) {
    DYNAMIC_SHARED(float, shared);
    int block = blockIdx.x;
    if (block < record.tokens) {
        write_new_row(record.fresh, record.angles, block, shared);
        return;
    }
    block -= record.tokens;
    if (block < record.rope_blocks) {
        rotate_queries(record, block);
        return;
    }
    block -= record.rope_blocks;
    const int head = block / record.tiles, tile = block % record.tiles;
    if constexpr (TRANSPOSED) {
        absorb_transposed<Format, TOKENS, THREADS>(record, head, tile, shared);
    } else {
        absorb_untransposed<Format, TOKENS, THREADS>(record, head, tile, shared);
    }
}

}  // namespace hybrid
