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

// A row of it, for many loads.
struct Row {
    const uint8_t* data;
    int64_t blocks;  // of all rows
    uint32_t unit;   // its first 32 weights among those of all rows
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
    // Loads of a row that 64 registers hold beside the arithmetic, a group each. Where a product
    // takes neighbours together, Pairs says it.
    static constexpr int kSteps = 2;
    static constexpr int kScales = kScalesOf32, kMinima = kMinimaOf32;
    static constexpr bool kWhole = false;  // whether it has dot(raw, group, x)
    static constexpr int kBookBytes = 0;   // of its book in shared memory: dot(raw, group, x, book)

    DEVICE Row row(const Matrix& matrix, int64_t row) {
        const uint32_t units = static_cast<uint32_t>(matrix.columns) / 32;
        return {matrix.data, matrix.total_rows * (matrix.columns / kWeightsOfBlock),
                static_cast<uint32_t>(matrix.first_row + row) * units};
    }
    DEVICE auto load(const Matrix& matrix, int64_t row, int group) {
        return Format::read(Blocks::row(matrix, row), group);
    }
    DEVICE Codes load32(const Matrix& matrix, int64_t row, int group) {
        return Format::decode(load(matrix, row, group), group);
    }
};

// Where the bytes of 32 weights and of their block are: `before` bytes per block stand in the
// planes in front. Numbers have 32 bits, so that an address is one multiplication beside what is
// the same for all.
template <int kBlock>
struct Place {
    const uint8_t* data;
    int64_t blocks;
    uint32_t unit;

    DEVICE Place of(const Row& row, int group) {
        return {row.data, row.blocks, row.unit + static_cast<uint32_t>(group)};
    }
    // A plane with so many bytes of each block.
    __device__ __forceinline__ const uint8_t* in(int before, int width) const {
        return data + blocks * before + static_cast<uint64_t>(unit / (kBlock / 32)) * width;
    }
    // A plane with so many bytes of each 32 weights.
    __device__ __forceinline__ const uint8_t* each(int before, int width) const {
        return data + blocks * before + static_cast<uint64_t>(unit) * width;
    }
    // A plane with a byte for each 64 weights.
    __device__ __forceinline__ const uint8_t* each_pair(int before) const {
        return data + blocks * before + unit / 2;
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

// Byte i of a word, by one instruction whatever i is.
DEVICE uint32_t byte_of(uint32_t word, int i) {
    return byte_permute(word, 0, 0x4440u + static_cast<uint32_t>(i));
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

// Sixteen signed bytes, looked up by nibbles. In the plane a word has the nibbles of four
// neighbours in its low half and those of the four 16 weights on in its high half, since a
// permutation takes its four selectors from one half.
struct NibbleTable {
    uint32_t words[4];
};

// Four bytes of the table for the nibbles of the low half of `word`.
DEVICE int look_up(const NibbleTable& table, uint32_t word) {
    const uint32_t index = word & 0x77777777u;
    const uint32_t upper = (word & 0x88888888u) >> 1 | 0x32103210u;  // chooses the table's half
    return static_cast<int>(byte_permute(byte_permute(table.words[0], table.words[1], index),
                                         byte_permute(table.words[2], table.words[3], index),
                                         upper));
}

DEVICE void look_up_all(const NibbleTable& table, const uint4& n4, int (&q)[8]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        q[i] = look_up(table, word_of(n4, i));
        q[i + 4] = look_up(table, word_of(n4, i) >> 16);
    }
}

// -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
constexpr NibbleTable kNonlinear = {{0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}};

// 0 1 2 3 4 6 8 12 0 -1 -2 -3 -4 -6 -8 -12: the fp4 numbers, doubled
constexpr NibbleTable kE2m1 = {{0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu}};

// The same tables as two that add up. A selector above 7 gives the chosen byte's sign, which is -1
// out of a half of negative numbers and 0 out of the other half. So both halves are multiplied and
// none is chosen; positive numbers are one greater for the -1 beside them.
constexpr NibbleTable kNonlinearHalves = {{0xbfad9881u, 0xf6eaddcfu, 0x271a0e02u, 0x725a4636u}};
constexpr NibbleTable kE2m1Halves = {{0x04030200u, 0x0d090705u, 0xfdfeff00u, 0xf4f8fafcu}};

// Four numbers by the nibbles of the low half of `word`, times those of x; the sum of both sums is
// meant.
DEVICE void dot_nibbles(const NibbleTable& halves, uint32_t word, int x, int& lower, int& upper) {
    const uint32_t low = byte_permute(halves.words[0], halves.words[1], word);
    const uint32_t high = byte_permute(halves.words[2], halves.words[3], word ^ 0x8888u);
    lower = dp4a(static_cast<int>(low), x, lower);
    upper = dp4a(static_cast<int>(high), x, upper);
}

}  // namespace hybrid
