// Formats of 256 ternary weights per block.
#pragma once

#include "formats_k.h"

namespace hybrid::HYBRID_TIER {

struct TQ1_0 {
    static constexpr int kId = 34, kWeights = 256;
    uint8_t fives[48];  // five base-3 digits a byte: 32 bytes give 160 weights, 16 give 80
    uint8_t fours[4];   // four digits a byte: 16 weights
    Half d;

    // `rounds` digits of each of `count` bytes, digit by digit; a byte is a fraction of 256, so its
    // next digit is the overflow of times three.
    static float* digits(const uint8_t* bytes, int count, int rounds, float scale,
                         float* __restrict out) {
        int power = 1;
        for (int round = 0; round < rounds; ++round, power *= 3) {
            for (int j = 0; j < count; ++j) {
                const int rest = bytes[j] * power & 255;
                out[j] = scale * static_cast<float>((rest * 3 >> 8) - 1);
            }
            out += count;
        }
        return out;
    }

    void decode(float* __restrict out) const {
        const float scale = d.number();
        out = digits(fives, 32, 5, scale, out);
        out = digits(fives + 32, 16, 5, scale, out);
        digits(fours, 4, 4, scale, out);
    }

    static constexpr int kOffset = 1;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const { return scales_of_ones(); }
    // Digits of bytes that have been multiplied by the powers of three that stand before them.
    Bytes numbers(int quarter) const {
        constexpr std::uint64_t kLow = 0xFFFFFFFF, kLast = 0xFFFFull << 48;
        if (quarter < 2) {
            const Bytes two = times_three(repeated_32(fives), ~kLow);
            return thirds(quarter ? times_three(times_three(two, ~0ull), ~0ull) : two);
        }
        if (quarter == 2) {
            Bytes bytes = times_three(join_48(fives), kLow | kLast);
            for (int i = 1; i < 4; ++i) bytes = times_three(bytes, kLow);
            return thirds(bytes);
        }
        Bytes bytes = times_three(join_16_4(fives + 32, fours), ~(15ull << 48));
        bytes = times_three(bytes, ~(255ull << 48));
        bytes = times_three(bytes, 0xF000FFFFFFFF0000);
        return thirds(times_three(bytes, 0xFFFF00000000));
    }
};

struct TQ2_0 {
    static constexpr int kId = 35, kWeights = 256;
    uint8_t pairs[64];
    Half d;

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int k = 0; k < 8; ++k) {
            const uint8_t* byte = pairs + 32 * (k / 4);
            const int shift = k % 4 * 2;
            for (int j = 0; j < 32; ++j) {
                out[32 * k + j] = scale * static_cast<float>((byte[j] >> shift & 3) - 1);
            }
        }
    }

    static constexpr int kOffset = 1;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const { return scales_of_ones(); }
    Bytes numbers(int quarter) const {
        const int shift = 4 * (quarter % 2);
        return fields(pairs + 32 * (quarter / 2), shift, shift + 2, 3);
    }
};

static_assert(sizeof(TQ1_0) == 54, "GGUF TQ1_0 is 54 bytes per 256 weights");
static_assert(sizeof(TQ2_0) == 66, "GGUF TQ2_0 is 66 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
