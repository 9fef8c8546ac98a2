// Attention from its splits: out = sum of weight_s mean_s / sum of weight_s, a block for some
// columns of a head. All of a block's loads are under way before the first weight is known.
#include "attention/splits.h"

namespace hybrid {

struct MergeRecord {
    SplitResults results;
    float* out;  // [tokens, heads, latent]
};

// Grid: latent / COLUMNS, heads, tokens.
template <class Part, int COLUMNS, int THREADS>
__global__ void __launch_bounds__(THREADS) merge_splits(const MergeRecord record) {
    constexpr int kWide = 16 / Part::kBytes, kSharing = COLUMNS / kWide;  // threads of a split
    constexpr int kStride = THREADS / kSharing;
    static_assert(kSharing <= kWarp, "a warp has whole splits");
    DYNAMIC_SHARED(float, weights);  // [2 cap]
    __shared__ float sums[THREADS / kWarp][COLUMNS];
    __shared__ float inverse;
    const SplitResults& results = record.results;
    const int head = blockIdx.y, token = blockIdx.z, thread = threadIdx.x;
    // The split kernel in front reads the lengths too, so they stand before it ends.
    const int count = results.count(token), own = thread / kSharing;
    const int local = thread % kSharing * kWide, column = blockIdx.x * COLUMNS + local;
    const unsigned char* from =
        static_cast<const unsigned char*>(results.partial) +
        (results.first(token, head) * results.latent + column) * Part::kBytes;
    wait_for_previous();
    let_next_start();
    SplitColumns<Part, 1, kWide> some;
    some.load(from, 0, results.latent, own, kStride, &count);
    if (warp_index() == 0) {
        const float factor = split_weights(results, token, head, count, weights);
        if (lane_index() == 0) inverse = factor;
    }
    __syncthreads();
    float sum[1][kWide] = {};
    for (int first = own; first < count; first += kStride * some.kEach) {
        if (first > own) some.load(from, 0, results.latent, first, kStride, &count);
        some.add(weights, 0, first, kStride, &count, sum);
    }
#pragma unroll
    for (int lanes = kSharing; lanes < kWarp; lanes *= 2) {
#pragma unroll
        for (int w = 0; w < kWide; ++w) sum[0][w] += shuffle_xor(sum[0][w], lanes);
    }
    if (lane_index() < kSharing) {
#pragma unroll
        for (int w = 0; w < kWide; ++w) sums[warp_index()][local + w] = sum[0][w];
    }
    __syncthreads();
    const int64_t row = static_cast<int64_t>(token) * results.heads + head;
    for (int at = thread; at < COLUMNS; at += THREADS) {
        float all = 0;
#pragma unroll
        for (int warp = 0; warp < THREADS / kWarp; ++warp) all += sums[warp][at];
        record.out[row * results.latent + blockIdx.x * COLUMNS + at] = all * inverse;
    }
}

}  // namespace hybrid
