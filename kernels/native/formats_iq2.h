// Codebooks of groups of eight with free signs: 2.06 to 2.56 bits a weight.
#pragma once

#include "formats_iq.h"

namespace hybrid::HYBRID_TIER {

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
    Scales scale_numbers() const { return odd_top_nibbles<sizeof(Run)>(&runs[0].signs_and_scale); }
    Signed numbers(int quarter) const {
        const Run &first = runs[2 * quarter], &last = runs[2 * quarter + 1];
        const uint32_t index[8] = {first.index[0], first.index[1], first.index[2], first.index[3],
                                   last.index[0],  last.index[1],  last.index[2],  last.index[3]};
        return with_signs(
            entries(iq2_xxs_codebook, index),
            even_signs_of_8(first.signs_and_scale.value(), last.signs_and_scale.value()));
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
        const std::uint64_t first = eight_bytes(groups + 8 * quarter);
        const std::uint64_t last = eight_bytes(groups + 8 * quarter + 4);
        constexpr std::uint64_t kIndices = 0x01FF01FF01FF01FF;
        return with_signs(entries_of_words(iq2_xs_codebook, first & kIndices, last & kIndices),
                          even_signs_of_8(collect(first, ~kIndices), collect(last, ~kIndices)));
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
        const uint8_t* low = index + 8 * quarter;
        return with_signs(entries_of_words(iq2_s_codebook, four_words(low, high[2 * quarter], 2),
                                           four_words(low + 4, high[2 * quarter + 1], 2)),
                          eight_bytes(signs + 8 * quarter));
    }
};

static_assert(sizeof(IQ2_XXS) == 66, "GGUF IQ2_XXS is 66 bytes per 256 weights");
static_assert(sizeof(IQ2_XS) == 74, "GGUF IQ2_XS is 74 bytes per 256 weights");
static_assert(sizeof(IQ2_S) == 82, "GGUF IQ2_S is 82 bytes per 256 weights");

}  // namespace hybrid::HYBRID_TIER
