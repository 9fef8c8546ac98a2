// Products of one head's rows with the inputs of a few tokens; each weight is read once.
//
// A row is cut into units of Format::kUnit weights. 2^lane_bits neighbouring threads share a row
// and add up by shuffles; a block has THREADS / 2^lane_bits rows under way. The first kAhead units
// of each thread are fetched before the inputs are there, so that the weights come while the kernel
// in front still runs.
#pragma once

#include "planar/activations.h"
#include "planar/formats.h"

namespace hybrid {

// Plain floats in rows of whole 32s: without the way for rows that end inside a unit.
template <class Floats>
struct Whole : Floats {
    DEVICE typename Floats::Raw load(const Matrix& matrix, int64_t row, int unit) {
        const int64_t at = (matrix.first_row + row) * matrix.columns + unit * Floats::kUnit;
        return {load16(matrix.data + at * Floats::kBytes)};
    }
};

// What a head's rows are multiplied with: int8 by groups of 32 for quantised weights, else floats.
template <class Format>
struct HeadInput {
    // Shared memory of one token.
    DEVICE int bytes(int columns) {
        return Format::kFloat ? float_bytes(columns) : rounded_bytes(columns);
    }

    // Eight lanes bring four values each of a group of 32, zeros behind `columns`; all lanes of a
    // warp call it. Where two eights have the same group, both write the same.
    DEVICE void put(void* shared, int columns, int token, int group, const float4& x) {
        if constexpr (Format::kFloat) {
            const int at = group * 32 + lane_index() % 8 * 4;
            if (at < float_bytes(columns) / 4)
                *reinterpret_cast<float4*>(floats_of(shared, columns, token) + at) = x;
        } else {
            round_group(Rounded(shared, columns, token), group, x);
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
    int first_unit, units;  // a multiple of 2^lane_bits
    int lane_bits;
};

template <class Format, int TOKENS, int THREADS>
struct HeadProducts {
    static constexpr int kAhead = Format::kFloat && TOKENS <= 4 ? 4 : 2;

    // A row that this thread takes part in, and a unit of it.
    struct Place {
        int row, unit;
    };

    const Matrix& matrix;
    const HeadSpan span;
    const int lanes, rows_at_once;
    typename Format::Raw held[kAhead];
    Place next;  // to be fetched

    __device__ __forceinline__ HeadProducts(const Matrix& of, const HeadSpan& what)
        : matrix(of),
          span(what),
          lanes(1 << what.lane_bits),
          rows_at_once(THREADS >> what.lane_bits),
          next(first()) {
#pragma unroll
        for (int i = 0; i < kAhead; ++i) fetch(held[i]);
    }

    // write(row, token, sum) is called once for every row and token, by one of its lanes. `shared`
    // holds the inputs of TOKENS tokens, `columns` values each, the first that of first_unit.
    template <class Write>
    __device__ __forceinline__ void run(void* shared, int columns, const Write& write) {
        float sum[TOKENS] = {};
        Place place = first();
        while (is_under_way(place)) {
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                if (!is_under_way(place)) break;
                HeadInput<Format>::add(held[i], span.first_unit + place.unit, shared, columns,
                                       place.unit, sum);
                fetch(held[i]);
                const int row = place.row;
                advance(place);
                if (place.row != row) finish(row, sum, write);
            }
        }
    }

  private:
    __device__ __forceinline__ int lane() const { return threadIdx.x & (lanes - 1); }
    __device__ __forceinline__ Place first() const {
        return {span.first_row + static_cast<int>(threadIdx.x >> span.lane_bits), lane()};
    }
    __device__ __forceinline__ void advance(Place& place) const {
        place.unit += lanes;
        if (place.unit >= span.units) place = {place.row + rows_at_once, lane()};
    }
    // The same for all threads of a block, so that all lanes take part in the shuffles.
    __device__ __forceinline__ bool is_under_way(const Place& place) const {
        return place.row - static_cast<int>(threadIdx.x >> span.lane_bits) < span.end_row;
    }

    // A thread without a row reads the last one.
    __device__ __forceinline__ void fetch(typename Format::Raw& raw) {
        if (!is_under_way(next)) return;
        raw = Format::load(matrix, span.head_row + min(next.row, span.end_row - 1),
                           span.first_unit + next.unit);
        advance(next);
    }

    template <class Write>
    __device__ __forceinline__ void finish(int row, float (&sum)[TOKENS],
                                           const Write& write) const {
        for (int other = lanes / 2; other > 0; other /= 2) {
#pragma unroll
            for (int t = 0; t < TOKENS; ++t) sum[t] += shuffle_xor(sum[t], other);
        }
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
            if (row < span.end_row && (t & (lanes - 1)) == lane()) write(row, t, sum[t]);
            sum[t] = 0;
        }
    }
};

}  // namespace hybrid
