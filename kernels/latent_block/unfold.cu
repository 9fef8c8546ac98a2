// From the splits of decode attention to the values of each head:
//
//     o = sum of splits, weighted       out[token, head] = W_value[head] o
//
// A block (part, head) merges some columns of o and multiplies them with the same columns of
// W_value, which it has fetched before the splits are there; so the weight's bytes come to all
// blocks, none waits for the whole of o, and o never leaves the block. The last block of a head to
// arrive adds up the parts, always in the same order.
//
// Columns of a part are whole 32s: o is rounded to int8 as the activations of any product are.
#include "latent_block/head_rows.h"
#include "latent_block/splits.h"

namespace hybrid {

struct UnfoldRecord {
    Matrix value;  // [heads, values, latent]
    SplitResults results;
    float* shares;      // [tokens, heads, parts, values]
    int32_t* counters;  // [groups of TOKENS tokens, heads], zero before and after
    float* out;         // [tokens, heads, values]
    int32_t tokens, values;
    int32_t head_rows;     // from a head's first row to the next head's
    int32_t part_columns;  // a power of 2
};

// Shared memory of a block; `gpu_unfold.py` counts the same bytes.
template <class Format, int TOKENS, int THREADS, int WIDE>
struct UnfoldShared {
    static constexpr int kSums = THREADS * WIDE;
    float* weights;  // [TOKENS][2 * cap]
    float* sums;     // [TOKENS][splits at once][columns]
    void* inputs;

    __device__ __forceinline__ UnfoldShared(float* begin, int cap)
        : weights(begin + TOKENS * kSums),
          sums(begin),
          inputs(weights + (2 * cap + 3) / 4 * 4 * TOKENS) {}
};

// The merged columns of every token into shared.sums: one row for each split that is under way.
template <class Format, int TOKENS, int THREADS, int WIDE>
DEVICE void merge(const UnfoldRecord& record, int first_token, int head, int part,
                  const UnfoldShared<Format, TOKENS, THREADS, WIDE>& shared, float* inverse) {
    const SplitResults& results = record.results;
    const int pitch = (2 * results.cap + 3) / 4 * 4, threads = record.part_columns / WIDE;
    const int thread = threadIdx.x, own = thread / threads, stride = THREADS / threads;
    const int local = thread % threads * WIDE, column = part * record.part_columns + local;
    const bool inside = column < results.latent;
    int count[TOKENS], most = 0;
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        const bool wanted = inside && first_token + t < record.tokens;
        count[t] = wanted ? results.count(first_token + t) : 0;
        most = max(most, count[t]);
    }
    const float* from =
        results.partial + results.first(first_token, head) * results.latent + column;
    const int64_t token_pitch = static_cast<int64_t>(results.heads) * results.cap * results.latent;
    SplitColumns<TOKENS, WIDE> some;
    some.load(from, token_pitch, results.latent, own, stride, count);
    for (int t = warp_index(); t < TOKENS; t += THREADS / kWarp) {
        const int token = first_token + t,
                  splits = token < record.tokens ? results.count(token) : 0;
        const float factor =
            split_weights(results, token, head, splits, shared.weights + t * pitch);
        if (lane_index() == 0) inverse[t] = factor;
    }
    __syncthreads();
    float sum[TOKENS][WIDE] = {};
    for (int first = own; first < most; first += stride * some.kEach) {
        if (first > own) some.load(from, token_pitch, results.latent, first, stride, count);
        some.add(shared.weights, pitch, first, stride, count, sum);
    }
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        float* to = shared.sums + (t * stride + own) * record.part_columns + local;
#pragma unroll
        for (int w = 0; w < WIDE; ++w) to[w] = sum[t][w];
    }
    __syncthreads();
}

// The rows of shared.sums added up, divided by the softmax's sum, as inputs of the product.
template <class Format, int TOKENS, int THREADS, int WIDE>
DEVICE void put_merged(const UnfoldRecord& record,
                       const UnfoldShared<Format, TOKENS, THREADS, WIDE>& shared,
                       const float* inverse) {
    const int columns = record.part_columns, groups = columns / 32;
    const int rows = THREADS * WIDE / columns, all = TOKENS * groups;
    for (int first = 0; first < all; first += THREADS / 8) {
        const int at = first + static_cast<int>(threadIdx.x) / 8;
        const bool active = at < all;
        const int group = active ? at % groups : 0, token = active ? at / groups : 0;
        const float* from =
            shared.sums + token * THREADS * WIDE + group * 32 + lane_index() % 8 * 4;
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
        for (int row = 0; row < rows; ++row) {
            const float4 four = *reinterpret_cast<const float4*>(from + row * columns);
            sum.x += four.x, sum.y += four.y, sum.z += four.z, sum.w += four.w;
        }
        const float by = inverse[token];
        sum = make_float4(sum.x * by, sum.y * by, sum.z * by, sum.w * by);
        HeadInput<Format>::put(shared.inputs, columns, token, group, sum, active);
    }
    __syncthreads();
}

// Grid: parts, heads, groups of TOKENS tokens. WIDE 4 where latent is a multiple of 4, else 1.
template <class Format, int TOKENS, int THREADS, int WIDE>
__global__ void __launch_bounds__(THREADS, 2) unfold(const UnfoldRecord record) {
    DYNAMIC_SHARED(float, dynamic);
    __shared__ float inverse[TOKENS];
    const UnfoldShared<Format, TOKENS, THREADS, WIDE> shared(dynamic, record.results.cap);
    const int part = blockIdx.x, parts = gridDim.x, head = blockIdx.y, heads = gridDim.y;
    const int first_token = blockIdx.z * TOKENS, values = record.values;
    const int units = record.part_columns / Format::kUnit;
    const HeadSpan span = {static_cast<int64_t>(head) * record.head_rows,
                           0,
                           values,
                           part * units,
                           units,
                           min(units, kWarp)};
    HeadProducts<Format, TOKENS, THREADS> products(record.value, span);
    wait_for_previous();
    let_next_start();
    merge(record, first_token, head, part, shared, inverse);
    put_merged(record, shared, inverse);
    products.run(shared.inputs, record.part_columns, [&](int row, int t, float sum) {
        const int64_t at = static_cast<int64_t>(first_token + t) * heads + head;
        if (first_token + t >= record.tokens) return;
        if (parts == 1) {
            record.out[at * values + row] = sum;
        } else {
            record.shares[(at * parts + part) * values + row] = sum;
        }
    });
    if (parts == 1 || !last_to_arrive(record.counters + blockIdx.z * heads + head, parts)) return;
    const int tokens = min(TOKENS, record.tokens - first_token);
    for (int i = threadIdx.x; i < tokens * values; i += THREADS) {
        const int64_t at = static_cast<int64_t>(first_token + i / values) * heads + head;
        const float* share = record.shares + at * parts * values + i % values;
        float sum = 0;
#pragma unroll 8
        for (int p = 0; p < parts; ++p) sum += share[p * values];
        record.out[at * values + i % values] = sum;
    }
}

}  // namespace hybrid
