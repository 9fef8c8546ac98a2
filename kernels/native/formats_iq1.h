// A codebook of groups of eight ternary numbers, shifted by an eighth: 1.56 and 1.75 bits a weight.
#pragma once

#include "formats_iq.h"

namespace hybrid::HYBRID_TIER {

struct IQ1_S {
    static constexpr int kId = 19, kWeights = 256;
    Half d;
    uint8_t index[32];
    Word16 words[8];  // 32 weights: four times three index bits, three of scale, the shift's sign

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const uint32_t word = words[g / 4].value();
            const float s = scale * static_cast<float>(2 * (word >> 12 & 7) + 1);
            const float shift = word & 0x8000 ? -0.125f : 0.125f;
            decode_shifted(iq1_codebook[index[g] | (word >> 3 * (g % 4) & 7) << 8], shift, s,
                           out + 8 * g);
        }
    }

    // Numbers are eighths: eight times the entry, and eight. The shift of one eighth is the same
    // for 32 weights, so that it can stay out of them.
    static constexpr int kOffset = 0;
    float factor() const { return half_number(d) * 0.125f; }
    float minimum_factor() const { return factor(); }
    FactorPair factors() const { return {factor(), factor()}; }
    Scales scale_numbers() const {
        const std::uint64_t threes = words_bits(0x7000700070007000, 3);
        return scales_of_32s(2 * deposit(threes, 7 * kEach) + kEach);
    }
    Scales minimum_numbers() const {
        const std::uint64_t down = deposit(words_bits(0x8000800080008000, 1), kEach);
        return products_of(scale_numbers(), scales_of_32s(2 * down + 7 * kEach));
    }
    Bytes numbers(int quarter) const {
        const Word16* both = words + 2 * quarter;
        const uint8_t* low = index + 8 * quarter;
        return entries_of_words(iq1_eighths, four_words(low, both[0].value() & 0xFFF, 3),
                                four_words(low + 4, both[1].value() & 0xFFF, 3));
    }

    // Of all eight words the bits at `places`, which are given for four: `bits` of each.
    std::uint64_t words_bits(std::uint64_t places, int bits) const {
        return collect(eight_bytes(words), places) | collect(eight_bytes(words + 4), places)
                                                         << 4 * bits;
    }
};

struct IQ1_M {
    static constexpr int kId = 29, kWeights = 256;
    uint8_t index[32];
    uint8_t high[16];  // a nibble for each group: three index bits, the shift's sign
    Word16 scales[4];  // four times three bits; the top nibbles together are the half scale

    void decode(float* __restrict out) const {
        uint32_t half = 0;
        for (int k = 0; k < 4; ++k) half |= scales[k].value() >> 12 << 4 * k;
        const float scale = float_of_half(half);
        for (int g = 0; g < 32; ++g) {
            const uint32_t three = scales[g / 8].value() >> 3 * (g / 2 % 4) & 7;
            const float s = scale * static_cast<float>(2 * three + 1);
            const int nibble = high[g / 2] >> 4 * (g % 2);
            const float shift = nibble & 8 ? -0.125f : 0.125f;
            decode_shifted(iq1_codebook[index[g] | (nibble & 7) << 8], shift, s, out + 8 * g);
        }
    }

    // Numbers are eighths: eight times the entry, and the shift of one eighth.
    static constexpr int kOffset = 9;
    float factor() const {
        const auto bits = static_cast<uint16_t>(collect(eight_bytes(scales), 0xF000F000F000F000));
        Half half;
        std::memcpy(&half, &bits, 2);
        return half_number(half) * 0.125f;
    }
    Scales scale_numbers() const {
        const std::uint64_t threes = collect(eight_bytes(scales), 0x0FFF0FFF0FFF0FFF);
        return scales_of(2 * deposit(threes, 7 * kEach) + kEach,
                         2 * deposit(threes >> 24, 7 * kEach) + kEach);
    }
    Bytes numbers(int quarter) const {
        uint32_t nibbles;
        std::memcpy(&nibbles, high + 4 * quarter, 4);
        const std::uint64_t threes = collect(nibbles, 0x77777777);
        const std::uint64_t down = deposit(collect(nibbles, 0x88888888), kEach) * 255;
        const uint8_t* low = index + 8 * quarter;
        return plus(entries_of_words(iq1_eighths, four_words(low, threes & 0xFFF, 3),
                                     four_words(low + 4, threes >> 12, 3)),
                    where_set(~down, 2));
    }
};

static_assert(sizeof(IQ1_S) == 50, "GGUF IQ1_S is 50 bytes per 256 weights");
static_assert(sizeof(IQ1_M) == 56, "GGUF IQ1_M is 56 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
