// Formats of 256 weights per block without a codebook: K-quants and IQ4_XS.
//
// decode() forms each value by the float operations of ggml in their order, so that results agree
// bit for bit. For vector code a block is four quarters of 64 numbers and 16 scales:
//     weight = factor * scale * (number - kOffset) - minimum_factor * minimum
#pragma once

#include "formats_small.h"

namespace hybrid::HYBRID_TIER {

// Eight bytes as a number, byte 0 lowest; arithmetic on all of them at once.
inline std::uint64_t eight_bytes(const void* bytes) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    return word;
}

constexpr std::uint64_t kEach = 0x0101010101010101;  // times a byte: that byte eight times

// Bytes of 0 .. 63, each less 32.
inline std::uint64_t less_32(std::uint64_t bytes) {
    return ((bytes | 0x80 * kEach) - 32 * kEach) ^ 0x80 * kEach;
}

struct Q2_K {
    static constexpr int kId = 10, kWeights = 256;
    uint8_t scales[16];  // low nibble: scale, high: minimum, of 16 weights
    uint8_t pairs[64];   // weight i: two bits of byte 32 (i / 128) + i % 32
    Half d, dmin;

    void decode(float* __restrict out) const {
        const float scale = d.number(), minimum = dmin.number();
        for (int k = 0; k < 16; ++k) {
            const float s = scale * static_cast<float>(scales[k] & 15);
            const float m = minimum * static_cast<float>(scales[k] >> 4);
            const uint8_t* byte = pairs + 32 * (k / 8) + 16 * (k % 2);
            const int shift = k % 8 / 2 * 2;
            for (int j = 0; j < 16; ++j) {
                out[16 * k + j] = s * static_cast<float>(byte[j] >> shift & 3) - m;
            }
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d); }
    float minimum_factor() const { return half_number(dmin); }
    FactorPair factors() const { return half_pair(&d); }
    Scales scale_numbers() const { return scales_of_nibbles(scales, 0); }
    Scales minimum_numbers() const { return scales_of_nibbles(scales, 4); }
    Bytes numbers(int quarter) const {
        const int shift = 4 * (quarter % 2);
        return fields(pairs + 32 * (quarter / 2), shift, shift + 2, 3);
    }
};

struct Q3_K {
    static constexpr int kId = 11, kWeights = 256;
    uint8_t high[32];  // weight i: bit i / 32 of byte i % 32; 0 subtracts four
    uint8_t pairs[64];
    uint8_t scales[12];  // 16 six-bit scales: nibbles in bytes 0-7, pairs of bits in bytes 8-11
    Half d;

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int k = 0; k < 16; ++k) {
            const int low = scales[k % 8] >> 4 * (k / 8) & 15;
            const int top = scales[8 + k % 4] >> 2 * (k / 4) & 3;
            const float s = scale * static_cast<float>((low | top << 4) - 32);
            const uint8_t* byte = pairs + 32 * (k / 8) + 16 * (k % 2);
            const uint8_t* mask = high + 16 * (k % 2);
            const int shift = k % 8 / 2 * 2, bit = k / 2;
            for (int j = 0; j < 16; ++j) {
                const int number = (byte[j] >> shift & 3) + 4 * (mask[j] >> bit & 1) - 4;
                out[16 * k + j] = s * static_cast<float>(number);
            }
        }
    }

    static constexpr int kOffset = 4;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const { return sixteen_six_bit_scales(scales); }
    Bytes numbers(int quarter) const {
        const int shift = 4 * (quarter % 2);
        const Bytes fours = fields(high, 2 * quarter - 2, 2 * quarter - 1, 4);
        return bit_or(fields(pairs + 32 * (quarter / 2), shift, shift + 2, 3), fours);
    }
};

// The eight six-bit scales and minima of Q4_K and Q5_K, packed in twelve bytes.
struct SixBitScales {
    uint8_t bytes[12];

    int scale(int k) const {
        return k < 4 ? bytes[k] & 63 : (bytes[k + 4] & 15) | (bytes[k - 4] >> 6) << 4;
    }
    int minimum(int k) const {
        return k < 4 ? bytes[k + 4] & 63 : bytes[k + 4] >> 4 | (bytes[k] >> 6) << 4;
    }
};

struct Q4_K {
    static constexpr int kId = 12, kWeights = 256;
    Half d, dmin;
    SixBitScales scales;
    uint8_t nibbles[128];  // 32 bytes hold 32 weights low and the next 32 high

    void decode(float* __restrict out) const {
        const float scale = d.number(), minimum = dmin.number();
        for (int k = 0; k < 8; ++k) {
            const float s = scale * static_cast<float>(scales.scale(k));
            const float m = minimum * static_cast<float>(scales.minimum(k));
            const uint8_t* byte = nibbles + 32 * (k / 2);
            const int shift = 4 * (k % 2);
            for (int j = 0; j < 32; ++j) {
                out[32 * k + j] = s * static_cast<float>(byte[j] >> shift & 15) - m;
            }
        }
    }

    static constexpr int kOffset = 0;
    static constexpr const int8_t* kValues = kCounted;
    float factor() const { return half_number(d); }
    float minimum_factor() const { return half_number(dmin); }
    FactorPair factors() const { return half_pair(&d); }
    Scales scale_numbers() const { return six_bit_scales(&scales); }
    Scales minimum_numbers() const { return six_bit_minimums(&scales); }
    Bytes numbers(int quarter) const { return fields(nibbles + 32 * quarter, 0, 4, 15); }
};

struct Q5_K {
    static constexpr int kId = 13, kWeights = 256;
    Half d, dmin;
    SixBitScales scales;
    uint8_t high[32];  // weight i: bit i / 32 of byte i % 32
    uint8_t nibbles[128];

    void decode(float* __restrict out) const {
        const float scale = d.number(), minimum = dmin.number();
        for (int k = 0; k < 8; ++k) {
            const float s = scale * static_cast<float>(scales.scale(k));
            const float m = minimum * static_cast<float>(scales.minimum(k));
            const uint8_t* byte = nibbles + 32 * (k / 2);
            const int shift = 4 * (k % 2);
            for (int j = 0; j < 32; ++j) {
                const int number = (byte[j] >> shift & 15) | (high[j] >> k & 1) << 4;
                out[32 * k + j] = s * static_cast<float>(number) - m;
            }
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d); }
    float minimum_factor() const { return half_number(dmin); }
    FactorPair factors() const { return half_pair(&d); }
    Scales scale_numbers() const { return six_bit_scales(&scales); }
    Scales minimum_numbers() const { return six_bit_minimums(&scales); }
    Bytes numbers(int quarter) const {
        const Bytes fifth = fields(high, 2 * quarter - 4, 2 * quarter - 3, 16);
        return bit_or(fields(nibbles + 32 * quarter, 0, 4, 15), fifth);
    }
};

struct Q6_K {
    static constexpr int kId = 14, kWeights = 256;
    uint8_t low[128];  // per 128 weights 64 bytes: the first 64 weights low, the others high
    uint8_t high[64];  // per 128 weights 32 bytes: two bits for each run of 32 weights
    int8_t scales[16];
    Half d;

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int k = 0; k < 16; ++k) {
            const float s = scale * static_cast<float>(scales[k]);
            const int part = k / 8, run = k % 8 / 2;
            const uint8_t* nibble = low + 64 * part + 32 * (run % 2) + 16 * (k % 2);
            const uint8_t* pair = high + 32 * part + 16 * (k % 2);
            const int low_shift = 4 * (run / 2), high_shift = 2 * run;
            for (int j = 0; j < 16; ++j) {
                const int number = (nibble[j] >> low_shift & 15) | (pair[j] >> high_shift & 3) << 4;
                out[16 * k + j] = s * static_cast<float>(number - 32);
            }
        }
    }

    static constexpr int kOffset = 32;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const { return scales_of_bytes(scales); }
    Bytes numbers(int quarter) const {
        const int shift = 4 * (quarter % 2);
        const Bytes top = fields(high + 32 * (quarter / 2), shift - 4, shift - 2, 48);
        return bit_or(field(low + 64 * (quarter / 2), shift, 15), top);
    }
};

struct IQ4_XS {
    static constexpr int kId = 23, kWeights = 256;
    Half d;
    Word16 scales_high;     // two bits for each 32 weights
    uint8_t scales_low[4];  // a nibble for each 32 weights
    uint8_t nibbles[8][16];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int k = 0; k < 8; ++k) {
            const int low = scales_low[k / 2] >> 4 * (k % 2) & 15;
            const int top = static_cast<int>(scales_high.value() >> 2 * k & 3);
            const float s = scale * static_cast<float>((low | top << 4) - 32);
            decode_lookup(nibbles[k], kNonlinear, s, out + 32 * k);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const {
        uint32_t low;
        std::memcpy(&low, scales_low, 4);
        return scales_of_32s(
            less_32(deposit(low, 15 * kEach) | deposit(scales_high.value(), 48 * kEach)));
    }
    Signed numbers(int quarter) const {
        return signed_lookup(kNonlinear,
                             nibbles_of_two(nibbles[2 * quarter], nibbles[2 * quarter + 1]));
    }
};

static_assert(sizeof(Q2_K) == 84, "GGUF Q2_K is 84 bytes per 256 weights");
static_assert(sizeof(Q3_K) == 110, "GGUF Q3_K is 110 bytes per 256 weights");
static_assert(sizeof(Q4_K) == 144, "GGUF Q4_K is 144 bytes per 256 weights");
static_assert(sizeof(Q5_K) == 176, "GGUF Q5_K is 176 bytes per 256 weights");
static_assert(sizeof(Q6_K) == 210, "GGUF Q6_K is 210 bytes per 256 weights");
static_assert(sizeof(IQ4_XS) == 136, "GGUF IQ4_XS is 136 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
