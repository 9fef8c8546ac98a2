// Scalar tier: floats.
#pragma once

#include <cstddef>

namespace hybrid::HYBRID_TIER {

inline Floats8 load8(const float* values) {
    Floats8 out;
    std::memcpy(&out, values, 32);
    return out;
}

inline Floats8 all8(float value) {
    return {{value, value, value, value, value, value, value, value}};
}

inline Floats8 multiply8(Floats8 a, const Floats8& b) {
    for (int i = 0; i < 8; ++i) a.value[i] *= b.value[i];
    return a;
}

inline Floats8 add8(Floats8 a, const Floats8& b) {
    for (int i = 0; i < 8; ++i) a.value[i] += b.value[i];
    return a;
}

inline Floats8 fma8(const Floats8& a, const Floats8& b, Floats8 c) {
    for (int i = 0; i < 8; ++i) c.value[i] += a.value[i] * b.value[i];
    return c;
}

inline void store8(const Floats8& values, float* out) {
    std::memcpy(out, &values, 32);
}

// Value (i + first) % 8 at place i.
inline Floats8 rotated8(const Floats8& values, int first) {
    Floats8 out;
    for (int i = 0; i < 8; ++i) out.value[i] = values.value[(i + first) % 8];
    return out;
}

inline float total8(const Floats8& values) {
    const float* v = values.value;
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// factor * sum of scale * sum of 16 activations, eight partial sums added to `row`.
inline Floats8 add_scaled_sums(Floats8 row, const Scales& scales, const std::int16_t* sums_16,
                               float factor) {
    for (int i = 0; i < 8; ++i) {
        const int sum =
            scales.scale[2 * i] * sums_16[2 * i] + scales.scale[2 * i + 1] * sums_16[2 * i + 1];
        row.value[i] += factor * static_cast<float>(sum);
    }
    return row;
}

inline RowSums no_row_sums() {
    return {};
}

inline RowSums add_times(RowSums row, const Sums& sums, float factor) {
    for (int i = 0; i < 8; ++i) {
        const int four = sums.sum[i] + sums.sum[i + 8] + sums.sum[i + 16] + sums.sum[i + 24];
        row.value[i] += factor * static_cast<float>(four);
    }
    return row;
}

using Factors = Floats8;

inline Factors factors_of(const Floats8& values) {
    return values;
}

inline RowSums add_rows(RowSums a, const RowSums& b) {
    for (int i = 0; i < 8; ++i) a.value[i] += b.value[i];
    return a;
}

inline RowSums with_floats(RowSums row, const Floats8& values) {
    for (int i = 0; i < 8; ++i) row.value[i] += values.value[i];
    return row;
}

// The products of two blocks, by factors 2 pair and 2 pair + 1.
inline RowSums add_times_pair(RowSums row, const Words& products, const Factors& factors,
                              int pair) {
    for (int half = 0; half < 2; ++half) {
        const float factor = factors.value[2 * pair + half];
        for (int i = 0; i < 8; ++i) {
            const std::int16_t* word = products.word + 16 * half + 2 * i;
            row.value[i] += factor * static_cast<float>(word[0] + word[1]);
        }
    }
    return row;
}

inline float total(const RowSums& row) {
    return total8(load8(row.value));
}

inline Lanes no_lanes() {
    return Lanes{};
}

inline Lanes all_lanes(float value) {
    return Lanes{value, value, value, value};
}

inline Lanes load(const float* values) {
    Lanes lanes;
    std::memcpy(&lanes, values, sizeof lanes);
    return lanes;
}

inline void store(Lanes lanes, float* out) {
    std::memcpy(out, &lanes, sizeof lanes);
}

inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return a * b + c;
}

inline Lanes add(Lanes a, Lanes b) {
    return a + b;
}

inline Lanes multiply(Lanes a, Lanes b) {
    return a * b;
}

inline Lanes larger(Lanes a, Lanes b) {
    for (int i = 0; i < kLanes; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

// The integer nearest to a float below 2^22 in size, ties to even, without a library call.
inline int nearest(float value) {
    std::int32_t bits;
    const float shifted = value + 12582912.0f;  // 1.5 * 2^23: the integer stands in the low bits
    std::memcpy(&bits, &shifted, 4);
    return (bits & 0x7FFFFF) - 0x400000;
}

// Sixteen floats times `factor`, rounded to the nearest integers, ties to even, that fit a byte;
// returns their sum.
inline int round_16(const float* values, float factor, std::int8_t* out) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) {
        const int rounded = nearest(values[i] * factor);
        out[i] = static_cast<std::int8_t>(rounded);
        sum += rounded;
    }
    return sum;
}

inline float total(Lanes lanes) {
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

inline float largest(Lanes lanes) {
    float most = lanes[0];
    for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

}  // namespace hybrid::HYBRID_TIER
