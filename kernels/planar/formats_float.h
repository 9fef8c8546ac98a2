// Plain floats: one plane, rows of any length. A unit is 16 bytes of weights.
#pragma once

#include "planar/matrix.h"

namespace hybrid {

// `Number` reads one weight of kBytes.
template <class Number>
struct Floats {
    static constexpr bool kFloat = true;
    static constexpr int kBytes = Number::kBytes;
    static constexpr int kUnit = 16 / kBytes;  // weights of a load()
    static constexpr int kSteps = 4;
    static constexpr int kBookBytes = 0;
    struct Raw {
        uint4 words;
    };

    struct Row {
        const uint8_t* data;
        int32_t columns;
    };
    DEVICE Row row(const Matrix& matrix, int64_t row) {
        return {matrix.data + (matrix.first_row + row) * matrix.columns * kBytes, matrix.columns};
    }

    // Weights of the row from kUnit * unit on; behind its end zeros.
    DEVICE Raw read(const Row& row, int unit) {
        const uint8_t* from = row.data + 16 * static_cast<int64_t>(unit);
        const int left = row.columns - kUnit * unit;
        if (row.columns % kUnit == 0 && left > 0) return {load16(from)};
        uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < kUnit; ++i) {
            if (i < left)
                words[i * kBytes / 4] |= Number::bits(from + i * kBytes) << i * kBytes % 4 * 8;
        }
        return {make_uint4(words[0], words[1], words[2], words[3])};
    }

    DEVICE Raw load(const Matrix& matrix, int64_t of_matrix, int unit) {
        return read(row(matrix, of_matrix), unit);
    }

    DEVICE void decode(const Raw& raw, float (&out)[kUnit]) {
#pragma unroll
        for (int i = 0; i < kUnit; ++i)
            out[i] = Number::value(word_of(raw.words, i * kBytes / 4) >> i * kBytes % 4 * 8);
    }

    DEVICE void load32(const Matrix& matrix, int64_t row, int group, float (&out)[32]) {
#pragma unroll
        for (int part = 0; part < 32 / kUnit; ++part) {
            float some[kUnit];
            decode(load(matrix, row, group * (32 / kUnit) + part), some);
#pragma unroll
            for (int i = 0; i < kUnit; ++i) out[part * kUnit + i] = some[i];
        }
    }
};

struct F32Number {
    static constexpr int kBytes = 4;
    DEVICE uint32_t bits(const void* from) { return load4(from); }
    DEVICE float value(uint32_t word) { return bits_float(word); }
};

struct F16Number {
    static constexpr int kBytes = 2;
    DEVICE uint32_t bits(const void* from) { return load2(from); }
    DEVICE float value(uint32_t word) { return half_to_float(static_cast<uint16_t>(word)); }
};

struct BF16Number {
    static constexpr int kBytes = 2;
    DEVICE uint32_t bits(const void* from) { return load2(from); }
    DEVICE float value(uint32_t word) { return bits_float(word << 16); }
};

struct F32 : Floats<F32Number> {};
struct F16 : Floats<F16Number> {};
struct BF16 : Floats<BF16Number> {};

}  // namespace hybrid
