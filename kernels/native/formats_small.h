// Plain floats and the formats of 32 weights per block. A block's bytes are its struct's bytes.
//
// decode() forms each value by the float operations of ggml in their order, so that results agree
// bit for bit. Nibbles: byte j holds weight j low and weight j + 16 high.
//
// Formats of 32 weights also tell vector code what they hold, two or eight blocks at a time:
//     weight = scale * (number - kOffset) + minimum
// and those of nibbles the sixteen values that kValues has for them:
//     weight = scale * kValues[nibble] + minimum
#pragma once

#include "lanes.h"

namespace hybrid::HYBRID_TIER {

struct F32 {
    static constexpr int kId = 0, kWeights = 1;
    Word32 bits;

    void decode(float* __restrict out) const { *out = float_of_bits(bits.value()); }
};

struct F16 {
    static constexpr int kId = 1, kWeights = 1;
    Half number;

    void decode(float* __restrict out) const { *out = number.number(); }
};

struct BF16 {
    static constexpr int kId = 30, kWeights = 1;
    Word16 high;

    void decode(float* __restrict out) const { *out = float_of_bits(high.value() << 16); }
};

inline constexpr int8_t kCentred[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
inline constexpr int8_t kCounted[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

struct Q4_0 {
    static constexpr int kId = 2, kWeights = 32;
    Half d;
    uint8_t nibbles[16];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int j = 0; j < 16; ++j) out[j] = scale * static_cast<float>((nibbles[j] & 15) - 8);
        for (int j = 0; j < 16; ++j)
            out[j + 16] = scale * static_cast<float>((nibbles[j] >> 4) - 8);
    }

    static constexpr int kOffset = 8;
    static constexpr const int8_t* kValues = kCentred;
    static Bytes numbers(const Q4_0* two) { return nibbles_of_two(two[0].nibbles, two[1].nibbles); }
    static Floats8 scales(const Q4_0* eight) { return eight_halves<sizeof(Q4_0)>(&eight->d); }
};

struct Q4_1 {
    static constexpr int kId = 3, kWeights = 32;
    Half d, m;
    uint8_t nibbles[16];

    void decode(float* __restrict out) const {
        const float scale = d.number(), minimum = m.number();
        for (int j = 0; j < 16; ++j) out[j] = scale * static_cast<float>(nibbles[j] & 15) + minimum;
        for (int j = 0; j < 16; ++j)
            out[j + 16] = scale * static_cast<float>(nibbles[j] >> 4) + minimum;
    }

    static constexpr int kOffset = 0;
    static constexpr const int8_t* kValues = kCounted;
    static Bytes numbers(const Q4_1* two) { return nibbles_of_two(two[0].nibbles, two[1].nibbles); }
    static Floats8 scales(const Q4_1* eight) { return eight_halves<sizeof(Q4_1)>(&eight->d); }
    static Floats8 minimums(const Q4_1* eight) { return eight_halves<sizeof(Q4_1)>(&eight->m); }
};

// The 32 five-bit numbers of Q5_0 and Q5_1: nibbles, and bit j of `high` as the fifth bit of weight
// j.
inline void five_bits(const uint8_t* nibbles, const uint8_t* high, uint8_t* __restrict numbers) {
    for (int group = 0; group < 4; ++group) {
        const uint8_t* bit = kBits.bit[high[group]];
        const uint8_t* byte = nibbles + 8 * (group % 2);
        const int shift = 4 * (group / 2);
        for (int j = 0; j < 8; ++j) {
            numbers[8 * group + j] = static_cast<uint8_t>((byte[j] >> shift & 15) | bit[j] << 4);
        }
    }
}

inline std::uint64_t pair_of_words(const uint8_t* first, const uint8_t* last) {
    uint32_t low, high;
    std::memcpy(&low, first, 4);
    std::memcpy(&high, last, 4);
    return low | static_cast<std::uint64_t>(high) << 32;
}

struct Q5_0 {
    static constexpr int kId = 6, kWeights = 32;
    Half d;
    uint8_t high[4];
    uint8_t nibbles[16];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        uint8_t numbers[32];
        five_bits(nibbles, high, numbers);
        for (int j = 0; j < 32; ++j) out[j] = scale * static_cast<float>(numbers[j] - 16);
    }

    static constexpr int kOffset = 16;
    static Bytes numbers(const Q5_0* two) {
        return bit_or(nibbles_of_two(two[0].nibbles, two[1].nibbles),
                      where_set(pair_of_words(two[0].high, two[1].high), 16));
    }
    static Floats8 scales(const Q5_0* eight) { return eight_halves<sizeof(Q5_0)>(&eight->d); }
};

struct Q5_1 {
    static constexpr int kId = 7, kWeights = 32;
    Half d, m;
    uint8_t high[4];
    uint8_t nibbles[16];

    void decode(float* __restrict out) const {
        const float scale = d.number(), minimum = m.number();
        uint8_t numbers[32];
        five_bits(nibbles, high, numbers);
        for (int j = 0; j < 32; ++j) out[j] = scale * static_cast<float>(numbers[j]) + minimum;
    }

    static constexpr int kOffset = 0;
    static Bytes numbers(const Q5_1* two) {
        return bit_or(nibbles_of_two(two[0].nibbles, two[1].nibbles),
                      where_set(pair_of_words(two[0].high, two[1].high), 16));
    }
    static Floats8 scales(const Q5_1* eight) { return eight_halves<sizeof(Q5_1)>(&eight->d); }
    static Floats8 minimums(const Q5_1* eight) { return eight_halves<sizeof(Q5_1)>(&eight->m); }
};

struct Q8_0 {
    static constexpr int kId = 8, kWeights = 32;
    Half d;
    int8_t signed_bytes[32];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int j = 0; j < 32; ++j) out[j] = scale * static_cast<float>(signed_bytes[j]);
    }

    static constexpr int kOffset = kWideOffset;
    static auto numbers(const Q8_0* two) {
        return wide(join(two[0].signed_bytes, two[1].signed_bytes));
    }
    static Floats8 scales(const Q8_0* eight) { return eight_halves<sizeof(Q8_0)>(&eight->d); }
};

inline constexpr int8_t kNonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Doubled e2m1 values; the block's scale is halved for it.
inline constexpr int8_t kE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline constexpr int8_t kE2m1Plus12[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                           12, 11, 10, 9,  8,  6,  4,  0};

// 32 nibbles looked up in a table of 16 numbers, times scale.
inline void decode_lookup(const uint8_t* nibbles, const int8_t* table, float scale,
                          float* __restrict out) {
    int8_t numbers[32];
    for (int j = 0; j < 16; ++j) {
        numbers[j] = table[nibbles[j] & 15];
        numbers[j + 16] = table[nibbles[j] >> 4];
    }
    for (int j = 0; j < 32; ++j) out[j] = scale * static_cast<float>(numbers[j]);
}

struct IQ4_NL {
    static constexpr int kId = 20, kWeights = 32;
    Half d;
    uint8_t nibbles[16];

    void decode(float* __restrict out) const {
        decode_lookup(nibbles, kNonlinear, d.number(), out);
    }

    static constexpr int kOffset = kWideOffset;
    static constexpr const int8_t* kValues = kNonlinear;
    static auto numbers(const IQ4_NL* two) {
        return wide_lookup(kNonlinear, nibbles_of_two(two[0].nibbles, two[1].nibbles));
    }
    static Floats8 scales(const IQ4_NL* eight) { return eight_halves<sizeof(IQ4_NL)>(&eight->d); }
};

struct MXFP4 {
    static constexpr int kId = 39, kWeights = 32;
    uint8_t exponent;
    uint8_t nibbles[16];

    // 2^(exponent - 128); the two smallest are subnormal floats
    float scale() const {
        return float_of_bits(exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
    }

    void decode(float* __restrict out) const { decode_lookup(nibbles, kE2m1, scale(), out); }

    static constexpr int kOffset = 12;
    static constexpr const int8_t* kValues = kE2m1;
    static Bytes numbers(const MXFP4* two) {
        return lookup(kE2m1Plus12, nibbles_of_two(two[0].nibbles, two[1].nibbles));
    }
    static Floats8 scales(const MXFP4* eight) {
        return eight_powers<sizeof(MXFP4)>(&eight->exponent);
    }
};

static_assert(sizeof(F32) == 4 && sizeof(F16) == 2 && sizeof(BF16) == 2, "plain floats");
static_assert(sizeof(Q4_0) == 18, "GGUF Q4_0 is 18 bytes per 32 weights");
static_assert(sizeof(Q4_1) == 20, "GGUF Q4_1 is 20 bytes per 32 weights");
static_assert(sizeof(Q5_0) == 22, "GGUF Q5_0 is 22 bytes per 32 weights");
static_assert(sizeof(Q5_1) == 24, "GGUF Q5_1 is 24 bytes per 32 weights");
static_assert(sizeof(Q8_0) == 34, "GGUF Q8_0 is 34 bytes per 32 weights");
static_assert(sizeof(IQ4_NL) == 18, "GGUF IQ4_NL is 18 bytes per 32 weights");
static_assert(sizeof(MXFP4) == 17, "GGUF MXFP4 is 17 bytes per 32 weights");

}  // namespace hybrid::HYBRID_TIER
