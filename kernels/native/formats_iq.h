// Formats of 256 weights per block whose groups of eight are entries of a codebook (codebooks.h).
//
// decode() forms each value by the float operations of ggml in their order, so that results agree
// bit for bit. g = 0..31 counts groups of eight weights.
#pragma once

#include "codebooks.h"
#include "scalar.h"

namespace hybrid {

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
};

static_assert(sizeof(IQ2_XXS) == 66, "GGUF IQ2_XXS is 66 bytes per 256 weights");
static_assert(sizeof(IQ2_XS) == 74, "GGUF IQ2_XS is 74 bytes per 256 weights");
static_assert(sizeof(IQ2_S) == 82, "GGUF IQ2_S is 82 bytes per 256 weights");
static_assert(sizeof(IQ3_XXS) == 98, "GGUF IQ3_XXS is 98 bytes per 256 weights");
static_assert(sizeof(IQ3_S) == 110, "GGUF IQ3_S is 110 bytes per 256 weights");
static_assert(sizeof(IQ1_S) == 50, "GGUF IQ1_S is 50 bytes per 256 weights");
static_assert(sizeof(IQ1_M) == 56, "GGUF IQ1_M is 56 bytes per 256 weights");

}  // namespace hybrid
