// Codebooks of groups of four with free signs: 3.06 and 3.44 bits a weight.
#pragma once

#include "formats_iq.h"

namespace hybrid::HYBRID_TIER {

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
    Scales scale_numbers() const { return odd_top_nibbles<4>(signs_and_scale); }
    Signed numbers(int quarter) const {
        uint32_t entry[16];
        for (int i = 0; i < 16; ++i) entry[i] = index[16 * quarter + i];
        return with_signs(entries(iq3_xxs_codebook, entry),
                          even_signs_of_8(signs_and_scale[2 * quarter].value(),
                                          signs_and_scale[2 * quarter + 1].value()));
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
        for (int four = 0; four < 4; ++four) {
            const int top = high[2 * quarter + four / 2] >> 4 * (four % 2);
            const std::uint64_t words = four_words(index + 16 * quarter + 4 * four, top, 1);
            for (int i = 0; i < 4; ++i) entry[4 * four + i] = words >> 16 * i & 0xFFFF;
        }
        return with_signs(entries(iq3_s_codebook, entry), eight_bytes(signs + 8 * quarter));
    }
};

static_assert(sizeof(IQ3_XXS) == 98, "GGUF IQ3_XXS is 98 bytes per 256 weights");
static_assert(sizeof(IQ3_S) == 110, "GGUF IQ3_S is 110 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
