// Products of one head's rows with the inputs of a few tokens; each weight is read once.
//
// A row is cut into units of Format::kUnit weights. `lanes` neighbouring threads, a power of 2,
// share a row and add up by shuffles; a block has THREADS / lanes rows under way. The first
// kAhead units of each thread are fetched before the inputs are there, so that the weights come
// while the kernel in front still runs.
#pragma once

#include "planar/activations.h"
#include "planar/formats.h"

namespace hybrid {

// What a head's rows are multiplied with: int8 by groups of 32 for quantised weights, else floats.
template <class Format>
struct HeadInput {
    // Shared memory of one token.
    DEVICE int bytes(int columns) {
        return Format::kFloat ? float_bytes(columns) : rounded_bytes(columns);
    }

    // Eight lanes bring four values each of a group of 32, zeros behind `columns`; all lanes of a
    // warp call it, those without a group with active = false.
    DEVICE void put(void* shared, int columns, int token, int group, const float4& x, bool active) {
        if constexpr (Format::kFloat) {
            const int at = group * 32 + lane_index() % 8 * 4;
            if (active && at < float_bytes(columns) / 4)
                *reinterpret_cast<float4*>(floats_of(shared, columns, token) + at) = x;
        } else {
            round_group(Rounded(shared, columns, token), group, x, active);
        }
    }

    // Of one unit with every token's input.
    template <int TOKENS>
    DEVICE void add(const typename Format::Raw& raw, int matrix_unit, void* shared, int columns,
                    int unit, float (&sum)[TOKENS]) {
        if constexpr (Format::kFloat) {
            float weight[Format::kUnit];
            Format::decode(raw, weight);
#pragma unroll
            for (int t = 0; t < TOKENS; ++t) {
                const float* x = floats_of(shared, columns, t) + unit * Format::kUnit;
#pragma unroll
                for (int i = 0; i < Format::kUnit; i += 4) {
                    const float4 four = *reinterpret_cast<const float4*>(x + i);
                    sum[t] += weight[i] * four.x + weight[i + 1] * four.y + weight[i + 2] * four.z +
                              weight[i + 3] * four.w;
                }
            }
        } else {
            const Codes codes = Format::decode(raw, matrix_unit);
#pragma unroll
            for (int t = 0; t < TOKENS; ++t)
                sum[t] += dot32<Format>(codes, Rounded(shared, columns, t).group(unit));
        }
    }
};

// Some rows of a head, and of these rows some neighbouring units.
struct HeadSpan {
    int64_t head_row;  // the head's first row in the matrix
    int first_row, end_row;
    int first_unit, units;  // a multiple of lanes
    int lanes;
};

template <class Format, int TOKENS, int THREADS>
struct HeadProducts {
    static constexpr int kAhead = Format::kFloat ? 4 : 2;

    const Matrix& matrix;
    const HeadSpan span;
    typename Format::Raw held[kAhead];

    __device__ __forceinline__ HeadProducts(const Matrix& of, const HeadSpan& what)
        : matrix(of), span(what) {
#pragma unroll
        for (int i = 0; i < kAhead; ++i)
            if (i < items()) fetch(held[i], i);
    }

    // write(row, token, sum) is called once for every row and token, by one of its lanes. `shared`
    // holds the inputs of TOKENS tokens, `columns` values each, the first that of first_unit.
    template <class Write>
    __device__ __forceinline__ void run(void* shared, int columns, const Write& write) {
        float sum[TOKENS] = {};
        for (int first = 0; first < items(); first += kAhead) {
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                const int item = first + i;
                if (item >= items()) break;
                const int unit = unit_of(item);
                HeadInput<Format>::add(held[i], span.first_unit + unit, shared, columns, unit, sum);
                if (item + kAhead < items()) fetch(held[i], item + kAhead);
                if ((item + 1) % steps() == 0) finish(row_of(item), sum, write);
            }
        }
    }

  private:
    __device__ __forceinline__ int lane() const { return threadIdx.x & (span.lanes - 1); }
    __device__ __forceinline__ int steps() const { return span.units / span.lanes; }
    __device__ __forceinline__ int rows_at_once() const { return THREADS / span.lanes; }
    __device__ __forceinline__ int items() const {
        const int rows = span.end_row - span.first_row;
        return (rows + rows_at_once() - 1) / rows_at_once() * steps();
    }
    __device__ __forceinline__ int unit_of(int item) const {
        return lane() + item % steps() * span.lanes;
    }
    __device__ __forceinline__ int row_of(int item) const {
        return span.first_row + item / steps() * rows_at_once() +
               static_cast<int>(threadIdx.x) / span.lanes;
    }

    // A thread without a row reads the last one, so that all lanes take part in the shuffles.
    __device__ __forceinline__ void fetch(typename Format::Raw& raw, int item) const {
        const int row = min(row_of(item), span.end_row - 1);
        raw = Format::load(matrix, span.head_row + row, span.first_unit + unit_of(item));
    }

    template <class Write>
    __device__ __forceinline__ void finish(int row, float (&sum)[TOKENS],
                                           const Write& write) const {
        for (int lanes = span.lanes / 2; lanes > 0; lanes /= 2) {
#pragma unroll
            for (int t = 0; t < TOKENS; ++t) sum[t] += shuffle_xor(sum[t], lanes);
        }
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
            if (row < span.end_row && (t & (span.lanes - 1)) == lane()) write(row, t, sum[t]);
            sum[t] = 0;
        }
    }
};

}  // namespace hybrid
