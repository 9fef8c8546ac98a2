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
#include "attention/splits.h"
#include "latent_block/head_rows.h"

namespace hybrid {

struct UnfoldRecord {
    Matrix value;  // [heads, values, latent]
    SplitResults results;
    float* shares;      // [tokens, heads, parts, values]
    int32_t* counters;  // [groups of TOKENS tokens, heads], zero before and after
    float* out;         // [tokens, heads, values]
    int32_t tokens, values;
    int32_t head_rows;  // from a head's first row to the next head's
    int32_t part_bits;  // 2^part_bits columns are a part
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
template <class Format, class Part, int TOKENS, int THREADS, int WIDE>
DEVICE void merge(const UnfoldRecord& record, int first_token, int head, int part,
                  const int (&count)[TOKENS],
                  const UnfoldShared<Format, TOKENS, THREADS, WIDE>& shared, float* inverse) {
    constexpr int kWideBits = WIDE == 4 ? 2 : 0;
    const SplitResults& results = record.results;
    const int pitch = (2 * results.cap + 3) / 4 * 4, thread = threadIdx.x;
    const int thread_bits = record.part_bits - kWideBits;  // 2^thread_bits threads share a split
    const int own = thread >> thread_bits, stride = THREADS >> thread_bits;
    const int local = (thread & ((1 << thread_bits) - 1)) * WIDE;
    const bool inside = (part << record.part_bits) + local < results.latent;
    const int column = inside ? (part << record.part_bits) + local : 0;
    constexpr int kAtOnce = TOKENS < 4 ? TOKENS : 4;  // registers hold no more tokens' columns
    const unsigned char* from =
        static_cast<const unsigned char*>(results.partial) +
        (results.first(first_token, head) * results.latent + column) * Part::kBytes;
    const int64_t token_pitch = static_cast<int64_t>(results.heads) * results.cap * results.latent;
    SplitColumns<Part, kAtOnce, WIDE> some;
    some.load(from, token_pitch, results.latent, own, stride, count);
    for (int t = warp_index(); t < TOKENS; t += THREADS / kWarp) {
        int splits = 0;  // count[t]: registers have no numbers that could be looked up
#pragma unroll
        for (int other = 0; other < TOKENS; ++other)
            if (other == t) splits = count[other];
        const float factor =
            split_weights(results, first_token + t, head, splits, shared.weights + t * pitch);
        if (lane_index() == 0) inverse[t] = factor;
    }
    __syncthreads();
#pragma unroll
    for (int t = 0; t < TOKENS; t += kAtOnce) {
        float sum[kAtOnce][WIDE] = {};
        int most = 0;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) most = max(most, count[t + i]);
        for (int first = own; first < most; first += stride * some.kEach) {
            if (t > 0 || first > own)
                some.load(from + t * token_pitch * Part::kBytes, token_pitch, results.latent, first,
                          stride, count + t);
            some.add(shared.weights + t * pitch, pitch, first, stride, count + t, sum);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            float* to = shared.sums + (((t + i) * stride + own) << record.part_bits) + local;
#pragma unroll
            for (int w = 0; w < WIDE; ++w) to[w] = inside ? sum[i][w] : 0.0f;
        }
    }
    __syncthreads();
}

// The rows of shared.sums added up, divided by the softmax's sum, as inputs of the product.
template <class Format, int TOKENS, int THREADS, int WIDE>
DEVICE void put_merged(const UnfoldRecord& record,
                       const UnfoldShared<Format, TOKENS, THREADS, WIDE>& shared,
                       const float* inverse) {
    const int group_bits = record.part_bits - 5, columns = 1 << record.part_bits;
    const int rows = THREADS * WIDE >> record.part_bits, all = TOKENS << group_bits;
    for (int first = 0; first < all; first += THREADS / 8) {
        const int at = min(first + static_cast<int>(threadIdx.x) / 8, all - 1);
        const int token = at >> group_bits, group = at - (token << group_bits);
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
        HeadInput<Format>::put(shared.inputs, columns, token, group, sum);
    }
    __syncthreads();
}

// A part has 2^unit_bits units: kUnit is 32 for blocks, 8 or 4 for floats.
template <class Format>
DEVICE int unit_bits(const UnfoldRecord& record) {
    return record.part_bits - (Format::kUnit == 32 ? 5 : Format::kUnit == 8 ? 3 : 2);
}

// Grid: parts, heads, groups of TOKENS tokens. WIDE 4 where latent is a multiple of 4, else 1.
template <class Format, class Part, int TOKENS, int THREADS, int WIDE>
__global__ void __launch_bounds__(THREADS, 2) unfold(const UnfoldRecord record) {
    DYNAMIC_SHARED(float, dynamic);
    __shared__ float inverse[TOKENS];
    const UnfoldShared<Format, TOKENS, THREADS, WIDE> shared(dynamic, record.results.cap);
    const int part = blockIdx.x, parts = gridDim.x, head = blockIdx.y, heads = gridDim.y;
    const int first_token = blockIdx.z * TOKENS, values = record.values;
    const int bits = unit_bits<Format>(record), units = 1 << bits;
    const HeadSpan span = {static_cast<int64_t>(head) * record.head_rows,
                           0,
                           values,
                           part * units,
                           units,
                           min(bits, 5)};
    HeadProducts<Format, TOKENS, THREADS> products(record.value, span);
    // The split kernel in front reads the lengths too and lets this one start after its own wait,
    // so they stand before it ends.
    int count[TOKENS];
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        count[t] = first_token + t < record.tokens ? record.results.count(first_token + t) : 0;
    }
    wait_for_previous();
    let_next_start();
    merge<Format, Part>(record, first_token, head, part, count, shared, inverse);
    put_merged(record, shared, inverse);
    products.run(shared.inputs, 1 << record.part_bits, [&](int row, int t, float sum) {
        const int64_t at = static_cast<int64_t>(first_token + t) * heads + head;
        if (first_token + t >= record.tokens) return;
        if (parts == 1) {
            record.out[at * values + row] = sum;
        } else {
            record.shares[(at * parts + part) * values + row] = sum;
        }
    });
    if (parts == 1 || !last_to_arrive(record.counters + blockIdx.z * heads + head, parts)) return;
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        if (first_token + t >= record.tokens) break;
        const int64_t at = static_cast<int64_t>(first_token + t) * heads + head;
        for (int row = threadIdx.x; row < values; row += THREADS) {
            const float* share = record.shares + at * parts * values + row;
            float sum = 0;
#pragma unroll 8
            for (int p = 0; p < parts; ++p) sum += share[p * values];
            record.out[at * values + row] = sum;
        }
    }
}

}  // namespace hybrid
