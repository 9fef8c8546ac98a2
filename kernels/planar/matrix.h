// A planar weight on the device, where its planes are, and what 32 of its weights are made of.
//
// A plane holds so and so many bytes of every block, block after block of all rows; planes follow
// one another (kernels/planar/reference.py: PLANES). Two steps, so that a warp can have many loads
// under way: load() fetches the words of 32 weights into registers, decode() makes numbers of them.
#pragma once

#include "cuda/device.h"

namespace hybrid {

// Rows first_row .. first_row + rows of the total_rows that `data` holds in planes.
struct Matrix {
    const uint8_t* data;
    int64_t total_rows;
    int64_t first_row;
    int32_t rows, columns;
};

// 32 weights: weight j = scale[j / 16] * (byte j of q, signed) - minimum[j / 16].
struct Codes {
    int q[8];
    float scale[2];
    float minimum[2];
};

// What formats of blocks share. kScales, kMinima: different ones among 32 weights, 0 minima: none.
template <class Format, int kWeightsOfBlock, int kScalesOf32, int kMinimaOf32>
struct Blocks {
    static constexpr bool kFloat = false;
    static constexpr int kBlock = kWeightsOfBlock;
    static constexpr int kUnit = 32;  // weights of a load()
    static constexpr int kSteps = 2;  // loads of a row that 64 registers hold beside the arithmetic
    static constexpr int kScales = kScalesOf32, kMinima = kMinimaOf32;

    DEVICE Codes load32(const Matrix& matrix, int64_t row, int group) {
        return Format::decode(Format::load(matrix, row, group), group);
    }
};

// Where the bytes of a block are: `before` bytes per block stand in the planes in front.
template <int kBlock>
struct Place {
    const uint8_t* data;
    int64_t blocks, block;

    DEVICE Place of(const Matrix& matrix, int64_t row, int group) {
        const int per_row = matrix.columns / kBlock;
        return {matrix.data, matrix.total_rows * per_row,
                (matrix.first_row + row) * per_row + group / (kBlock / 32)};
    }
    __device__ __forceinline__ const uint8_t* in(int before, int width) const {
        return data + blocks * before + block * width;
    }
};

constexpr uint32_t kOnes = 0x01010101u;

DEVICE float half_low(uint32_t word) {
    return half_to_float(static_cast<uint16_t>(word));
}
DEVICE float half_high(uint32_t word) {
    return half_to_float(static_cast<uint16_t>(word >> 16));
}

DEVICE void set_scale(Codes& codes, float scale) {
    codes.scale[0] = codes.scale[1] = scale;
}
DEVICE void set_minimum(Codes& codes, float minimum) {
    codes.minimum[0] = codes.minimum[1] = minimum;
}

DEVICE uint32_t word_of(const uint4& words, int i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

DEVICE void nibbles(const uint4& n4, int (&q)[8]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        q[i] = static_cast<int>(word_of(n4, i) & 0x0f0f0f0fu);
        q[i + 4] = static_cast<int>(word_of(n4, i) >> 4 & 0x0f0f0f0fu);
    }
}

// Word i of eight of the plane n2, at `shift` in each byte.
template <int shift>
DEVICE uint32_t two_bits(const uint2& n2, int i) {
    const uint32_t word = i < 4 ? n2.x : n2.y;
    const int from = 2 * (i % 4);
    return (from >= shift ? word >> (from - shift) : word << (shift - from)) & 3 * kOnes << shift;
}

template <int shift>
DEVICE uint32_t one_bit(uint32_t n1, int i) {
    return (i >= shift ? n1 >> (i - shift) : n1 << (shift - i)) & kOnes << shift;
}

// Each byte minus `offset`: none is above 127 + offset, so that no byte borrows of the next.
template <int offset>
DEVICE void centre(int (&q)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
        q[i] =
            static_cast<int>((static_cast<uint32_t>(q[i]) + (128 - offset) * kOnes) ^ 128 * kOnes);
}

// Sixteen signed bytes, looked up by nibbles.
struct NibbleTable {
    uint32_t words[4];
};

// Of a word's nibbles the low ones into `low`, the high ones into `high`.
DEVICE void look_up(const NibbleTable& table, uint32_t word, int& low, int& high) {
    const uint32_t index = word & 0x77777777u;
    const uint32_t upper = (word & 0x88888888u) >> 1 | 0x32103210u;  // chooses the table's half
    uint32_t found[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const uint32_t at = index >> 16 * half;
        found[half] =
            byte_permute(byte_permute(table.words[0], table.words[1], at),
                         byte_permute(table.words[2], table.words[3], at), upper >> 16 * half);
    }
    low = static_cast<int>(byte_permute(found[0], found[1], 0x6420));
    high = static_cast<int>(byte_permute(found[0], found[1], 0x7531));
}

DEVICE void look_up_all(const NibbleTable& table, const uint4& n4, int (&q)[8]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) look_up(table, word_of(n4, i), q[i], q[i + 4]);
}

// -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
constexpr NibbleTable kNonlinear = {{0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}};
// 0 1 2 3 4 6 8 12 0 -1 -2 -3 -4 -6 -8 -12: the fp4 numbers, doubled
constexpr NibbleTable kE2m1 = {{0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu}};

}  // namespace hybrid
