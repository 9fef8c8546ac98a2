// Formats of 256 weights per block whose groups of eight are entries of a codebook (codebooks.h).
//
// decode() forms each value by the float operations of ggml in their order, so that results agree
// bit for bit. g = 0..31 counts groups of eight weights.
#pragma once

#include "codebooks.h"
#include "formats_k.h"

namespace hybrid::HYBRID_TIER {

// Seven sign bits; the eighth makes the number of ones even.
inline const int8_t* even_signs(uint32_t seven) {
    const uint32_t bits = seven & 127;
    return kBits.sign[bits | static_cast<uint32_t>(__builtin_parity(bits)) << 7];
}

// A codebook number times its sign is exact, and never zero: one multiplication less than ggml, the
// same bits.
inline void decode_signed(const int8_t* numbers, const int8_t* signs, float scale,
                          float* __restrict out) {
    for (int j = 0; j < 8; ++j) out[j] = scale * static_cast<float>(numbers[j] * signs[j]);
}

inline void decode_signed_fours(const int8_t* first, const int8_t* second, const int8_t* signs,
                                float scale, float* __restrict out) {
    for (int j = 0; j < 4; ++j) out[j] = scale * static_cast<float>(first[j] * signs[j]);
    for (int j = 0; j < 4; ++j) out[j + 4] = scale * static_cast<float>(second[j] * signs[j + 4]);
}

inline void decode_shifted(const int8_t* numbers, float shift, float scale, float* __restrict out) {
    for (int j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>(numbers[j]) + shift);
}

// The nibble of `scales` for groups 2 k and 2 k + 1.
inline uint32_t nibble_of_pair(const uint8_t* scales, int g) {
    return scales[g / 4] >> 4 * (g / 2 % 2) & 15;
}

// Four times seven bits, each with its eighth: 32 signs.
inline uint32_t signs_of_28(uint32_t word) {
    const uint32_t sevens =
        (word & 0x7F) | (word & 0x3F80) << 1 | (word & 0x1FC000) << 2 | (word & 0xFE00000) << 3;
    uint32_t odd = sevens ^ (sevens >> 4 & 0x0F0F0F0F);
    odd ^= odd >> 2 & 0x3F3F3F3F;
    odd ^= odd >> 1 & 0x7F7F7F7F;
    return sevens | (odd & 0x01010101) << 7;
}

inline std::uint64_t joined(uint32_t low, uint32_t high) {
    return low | static_cast<std::uint64_t>(high) << 32;
}

// Nibbles of eight bytes in turn, each n as 2 n + 1.
inline Scales odd_scales(std::uint64_t nibbles) {
    return scales_in_turn((nibbles & 15 * kEach) * 2 + kEach,
                          (nibbles >> 4 & 15 * kEach) * 2 + kEach);
}

struct IQ2_XXS {
    static constexpr int kId = 16, kWeights = 256;
    struct Run {  // 32 weights
        uint8_t index[4];
        Word32 signs_and_scale;  // four times seven signs, a scale in the top four bits
    };
    Half d;
    Run runs[8];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const Run& run = runs[g / 4];
            const uint32_t word = run.signs_and_scale.value();
            const float s = scale * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
            decode_signed(iq2_xxs_codebook[run.index[g % 4]], even_signs(word >> 7 * (g % 4)), s,
                          out + 8 * g);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d) * 0.125f; }
    Scales scale_numbers() const {
        std::uint64_t bytes = 0;
        for (int k = 0; k < 8; ++k) {
            bytes |= static_cast<std::uint64_t>(runs[k].signs_and_scale.value() >> 28) << 8 * k;
        }
        return scales_of_32s(2 * bytes + kEach);
    }
    Signed numbers(int quarter) const {
        const Run &first = runs[2 * quarter], &last = runs[2 * quarter + 1];
        const uint32_t index[8] = {first.index[0], first.index[1], first.index[2], first.index[3],
                                   last.index[0],  last.index[1],  last.index[2],  last.index[3]};
        return with_signs(entries(iq2_xxs_codebook, index),
                          joined(signs_of_28(first.signs_and_scale.value()),
                                 signs_of_28(last.signs_and_scale.value())));
    }
};

struct IQ2_XS {
    static constexpr int kId = 17, kWeights = 256;
    Half d;
    Word16 groups[32];  // nine bits of index, seven signs
    uint8_t scales[8];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const uint32_t word = groups[g].value();
            const float s = scale * (0.5f + static_cast<float>(nibble_of_pair(scales, g))) * 0.25f;
            decode_signed(iq2_xs_codebook[word & 511], even_signs(word >> 9), s, out + 8 * g);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d) * 0.125f; }
    Scales scale_numbers() const { return odd_scales(eight_bytes(scales)); }
    Signed numbers(int quarter) const {
        uint32_t index[8], seven[2] = {};
        for (int i = 0; i < 8; ++i) {
            const uint32_t word = groups[8 * quarter + i].value();
            index[i] = word & 511;
            seven[i / 4] |= word >> 9 << 7 * (i % 4);
        }
        return with_signs(entries(iq2_xs_codebook, index),
                          joined(signs_of_28(seven[0]), signs_of_28(seven[1])));
    }
};

struct IQ2_S {
    static constexpr int kId = 22, kWeights = 256;
    Half d;
    uint8_t index[32];
    uint8_t signs[32];
    uint8_t high[8];  // bits 8 and 9 of four indices
    uint8_t scales[8];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const int entry = index[g] | (high[g / 4] >> 2 * (g % 4) & 3) << 8;
            const float s = scale * (0.5f + static_cast<float>(nibble_of_pair(scales, g))) * 0.25f;
            decode_signed(iq2_s_codebook[entry], kBits.sign[signs[g]], s, out + 8 * g);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d) * 0.125f; }
    Scales scale_numbers() const { return odd_scales(eight_bytes(scales)); }
    Signed numbers(int quarter) const {
        uint32_t entry[8];
        for (int i = 0; i < 8; ++i) {
            const uint32_t top = high[2 * quarter + i / 4] >> 2 * (i % 4) & 3u;
            entry[i] = index[8 * quarter + i] | top << 8;
        }
        return with_signs(entries(iq2_s_codebook, entry), eight_bytes(signs + 8 * quarter));
    }
};

struct IQ3_XXS {
    static constexpr int kId = 18, kWeights = 256;
    Half d;
    uint8_t index[64];  // two entries of four for a group
    Word32 signs_and_scale[8];

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const uint32_t word = signs_and_scale[g / 4].value();
            const float s = scale * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
            decode_signed_fours(iq3_xxs_codebook[index[2 * g]], iq3_xxs_codebook[index[2 * g + 1]],
                                even_signs(word >> 7 * (g % 4)), s, out + 8 * g);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d) * 0.25f; }
    Scales scale_numbers() const {
        std::uint64_t bytes = 0;
        for (int k = 0; k < 8; ++k) {
            bytes |= static_cast<std::uint64_t>(signs_and_scale[k].value() >> 28) << 8 * k;
        }
        return scales_of_32s(2 * bytes + kEach);
    }
    Signed numbers(int quarter) const {
        uint32_t entry[16];
        for (int i = 0; i < 16; ++i) entry[i] = index[16 * quarter + i];
        return with_signs(entries(iq3_xxs_codebook, entry),
                          joined(signs_of_28(signs_and_scale[2 * quarter].value()),
                                 signs_of_28(signs_and_scale[2 * quarter + 1].value())));
    }
};

struct IQ3_S {
    static constexpr int kId = 21, kWeights = 256;
    Half d;
    uint8_t index[64];
    uint8_t high[8];  // bit 8 of eight indices
    uint8_t signs[32];
    uint8_t scales[4];  // a nibble for 32 weights

    void decode(float* __restrict out) const {
        const float scale = d.number();
        for (int g = 0; g < 32; ++g) {
            const int nibble = scales[g / 8] >> 4 * (g / 4 % 2) & 15;
            const float s = scale * static_cast<float>(1 + 2 * nibble);
            const int top = high[g / 4] >> 2 * (g % 4);
            decode_signed_fours(iq3_s_codebook[index[2 * g] | (top & 1) << 8],
                                iq3_s_codebook[index[2 * g + 1] | (top >> 1 & 1) << 8],
                                kBits.sign[signs[g]], s, out + 8 * g);
        }
    }

    static constexpr int kOffset = 0;
    float factor() const { return half_number(d); }
    Scales scale_numbers() const {
        uint32_t nibbles;
        std::memcpy(&nibbles, scales, 4);
        const std::uint64_t bytes = deposit(nibbles, 15 * kEach);
        return scales_of_32s(2 * bytes + kEach);
    }
    Signed numbers(int quarter) const {
        uint32_t entry[16];
        for (int i = 0; i < 16; ++i) {
            const uint32_t top = high[2 * quarter + i / 8] >> i % 8 & 1u;
            entry[i] = index[16 * quarter + i] | top << 8;
        }
        return with_signs(entries(iq3_s_codebook, entry), eight_bytes(signs + 8 * quarter));
    }
};

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

    // Numbers are eighths: eight times the entry, and the shift of one eighth.
    static constexpr int kOffset = 9;
    float factor() const { return half_number(d) * 0.125f; }
    Scales scale_numbers() const {
        std::uint64_t bytes = 0;
        for (int k = 0; k < 8; ++k) {
            bytes |= static_cast<std::uint64_t>(words[k].value() >> 12 & 7) << 8 * k;
        }
        return scales_of_32s(2 * bytes + kEach);
    }
    Bytes numbers(int quarter) const {
        uint32_t entry[8];
        for (int i = 0; i < 8; ++i) {
            const uint32_t word = words[2 * quarter + i / 4].value();
            entry[i] = index[8 * quarter + i] | (word >> 3 * (i % 4) & 7) << 8;
        }
        const uint32_t first = words[2 * quarter].value() & 0x8000 ? 0u : ~0u;
        const uint32_t last = words[2 * quarter + 1].value() & 0x8000 ? 0u : ~0u;
        return plus(entries(iq1_eighths, entry), where_set(joined(first, last), 2));
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
        const std::uint64_t all = eight_bytes(scales);
        const std::uint64_t half =
            (all >> 12 & 15) | (all >> 24 & 0xF0) | (all >> 36 & 0xF00) | (all >> 48 & 0xF000);
        Half scale;
        const auto bits = static_cast<uint16_t>(half);
        std::memcpy(&scale, &bits, 2);
        return half_number(scale) * 0.125f;
    }
    Scales scale_numbers() const {
        std::uint64_t bytes[2] = {};
        for (int k = 0; k < 16; ++k) {
            const std::uint64_t three = scales[k / 4].value() >> 3 * (k % 4) & 7;
            bytes[k / 8] |= three << 8 * (k % 8);
        }
        return scales_of(2 * bytes[0] + kEach, 2 * bytes[1] + kEach);
    }
    Bytes numbers(int quarter) const {
        uint32_t entry[8];
        std::uint64_t up = 0;
        for (int i = 0; i < 8; ++i) {
            const uint32_t nibble = high[4 * quarter + i / 2] >> 4 * (i % 2) & 15u;
            entry[i] = index[8 * quarter + i] | (nibble & 7) << 8;
            up |= (nibble & 8 ? 0ull : 0xFFull) << 8 * i;
        }
        return plus(entries(iq1_eighths, entry), where_set(up, 2));
    }
};

static_assert(sizeof(IQ2_XXS) == 66, "GGUF IQ2_XXS is 66 bytes per 256 weights");
static_assert(sizeof(IQ2_XS) == 74, "GGUF IQ2_XS is 74 bytes per 256 weights");
static_assert(sizeof(IQ2_S) == 82, "GGUF IQ2_S is 82 bytes per 256 weights");
static_assert(sizeof(IQ3_XXS) == 98, "GGUF IQ3_XXS is 98 bytes per 256 weights");
static_assert(sizeof(IQ3_S) == 110, "GGUF IQ3_S is 110 bytes per 256 weights");
static_assert(sizeof(IQ1_S) == 50, "GGUF IQ1_S is 50 bytes per 256 weights");
static_assert(sizeof(IQ1_M) == 56, "GGUF IQ1_M is 56 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
