// Formats of 256 weights per block whose groups of eight (IQ3: four) are entries of a codebook.
//
// A book's word holds for each number its place among the few that the book has, so that one byte
// permutation makes four of them. `group` counts 32 weights, eight a block.
#pragma once

#include "planar/codebooks_iq1_iq3.h"
#include "planar/codebooks_iq2.h"
#include "planar/matrix.h"

namespace hybrid {

// Eight fields of two bits choose bytes of `numbers`.
DEVICE void choose_eight(uint32_t fields, uint32_t numbers, int* q) {
    uint32_t spread = (fields | fields << 8) & 0x00ff00ffu;
    spread = (spread | spread << 4) & 0x0f0f0f0fu;
    spread = (spread | spread << 2) & 0x33333333u;
    q[0] = static_cast<int>(byte_permute(numbers, 0, spread));
    q[1] = static_cast<int>(byte_permute(numbers, 0, spread >> 16));
}

constexpr uint32_t kNumbersOfIq2 = 0x002b1908u;  // 8 25 43

// The four bytes of q become negative where the four bits are set; none of them is zero.
DEVICE int negated(int q, uint32_t four_bits) {
    const uint32_t ones = (four_bits & 15) * 0x00204081u & kOnes;
    return static_cast<int>((static_cast<uint32_t>(q) ^ ones * 255) + ones);
}

DEVICE void negate_all(int (&q)[8], uint32_t bits) {
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] = negated(q[i], bits >> 4 * i);
}

// Four times seven signs from the lowest 28 bits, each with an eighth that makes their number even.
DEVICE uint32_t even_signs(uint32_t sevens) {
    const uint32_t signs = (sevens & 0x7fu) | (sevens << 1 & 0x7f00u) | (sevens << 2 & 0x7f0000u) |
                           (sevens << 3 & 0x7f000000u);
    uint32_t odd = signs ^ signs >> 4;  // into bit 0 of each byte fall only its own bits
    odd ^= odd >> 2;
    odd ^= odd >> 1;
    return signs | (odd & kOnes) << 7;
}

// qs (four indices; four times seven signs and a scale of four bits), d
struct IQ2_XXS : Blocks<IQ2_XXS, 256, 1, 0> {
    static constexpr int kSteps = 4;
    struct Raw {
        uint2 qs;
        uint16_t d;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        return {load8(at.in(0, 64) + 8 * (group % 8)), load2(at.in(64, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(__ldg(iq2_xxs_book + (raw.qs.x >> 8 * k & 255)), kNumbersOfIq2,
                         codes.q + 2 * k);
        negate_all(codes.q, even_signs(raw.qs.y));
        const float scale = static_cast<float>(2 * (raw.qs.y >> 28) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.125f);
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// The two scales of a byte of nibbles n: d (2 n + 1) / 8.
DEVICE void set_two_scales(Codes& codes, float d, uint32_t scales) {
    codes.scale[0] = d * static_cast<float>(2 * (scales & 15) + 1) * 0.125f;
    codes.scale[1] = d * static_cast<float>(2 * (scales >> 4 & 15) + 1) * 0.125f;
}

// four words of an index (nine bits) and seven signs, a byte of two scales, d
struct IQ2_XS : Blocks<IQ2_XS, 256, 2, 0> {
    static constexpr int kSteps = 4;
    struct Raw {
        uint2 qs;
        uint16_t d;
        uint8_t scales;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load8(at.in(0, 64) + 8 * g), load2(at.in(72, 2)), load1(at.in(64, 8) + g)};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const uint32_t words[4] = {raw.qs.x & 0xffff, raw.qs.x >> 16, raw.qs.y & 0xffff,
                                   raw.qs.y >> 16};
        uint32_t sevens = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            choose_eight(__ldg(iq2_xs_book + (words[k] & 511)), kNumbersOfIq2, codes.q + 2 * k);
            sevens |= words[k] >> 9 << 7 * k;
        }
        negate_all(codes.q, even_signs(sevens));
        set_two_scales(codes, half_to_float(raw.d), raw.scales);
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// four bytes of index, four of signs, a byte of the indices' ninth and tenth bits, one of scales, d
struct IQ2_S : Blocks<IQ2_S, 256, 2, 0> {
    static constexpr int kSteps = 4;
    struct Raw {
        uint32_t index, signs;
        uint16_t d;
        uint8_t high, scales;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load4(at.in(0, 32) + 4 * g), load4(at.in(32, 32) + 4 * g), load2(at.in(80, 2)),
                load1(at.in(64, 8) + g), load1(at.in(72, 8) + g)};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const uint32_t entry = (raw.index >> 8 * k & 255) | (raw.high >> 2 * k & 3) << 8;
            choose_eight(__ldg(iq2_s_book + entry), kNumbersOfIq2, codes.q + 2 * k);
        }
        negate_all(codes.q, raw.signs);
        set_two_scales(codes, half_to_float(raw.d), raw.scales);
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// eight indices, a word of four times seven signs and a scale of four bits, d
struct IQ3_XXS : Blocks<IQ3_XXS, 256, 1, 0> {
    struct Raw {
        uint2 index;
        uint32_t word;
        uint16_t d;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load8(at.in(0, 64) + 8 * g), load4(at.in(64, 32) + 4 * g), load2(at.in(96, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const uint32_t four = k < 4 ? raw.index.x : raw.index.y;
            const uint32_t fields = __ldg(iq3_xxs_book + (four >> 8 * (k % 4) & 255));
            // 4 12 20 28 36 44 52 62
            codes.q[k] = static_cast<int>(byte_permute(0x1c140c04u, 0x3e342c24u, fields));
        }
        negate_all(codes.q, even_signs(raw.word));
        const float scale = static_cast<float>(2 * (raw.word >> 28) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.25f);
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// eight indices, four bytes of signs, a byte of the indices' ninth bits, a nibble of scale, d
struct IQ3_S : Blocks<IQ3_S, 256, 1, 0> {
    struct Raw {
        uint2 index;
        uint32_t signs;
        uint16_t d;
        uint8_t high, scales;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load8(at.in(0, 64) + 8 * g), load4(at.in(64, 32) + 4 * g), load2(at.in(108, 2)),
                load1(at.in(96, 8) + g), load1(at.in(104, 4) + g / 2)};
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const uint32_t four = k < 4 ? raw.index.x : raw.index.y;
            const uint32_t entry = (four >> 8 * (k % 4) & 255) | (raw.high >> k & 1) << 8;
            // 1 3 5 7 9 11 13 15
            codes.q[k] =
                static_cast<int>(byte_permute(0x07050301u, 0x0f0d0b09u, __ldg(iq3_s_book + entry)));
        }
        negate_all(codes.q, raw.signs);
        const int scale = raw.scales >> 4 * (group % 2) & 15;
        set_scale(codes, half_to_float(raw.d) * static_cast<float>(2 * scale + 1));
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// Numbers -1 0 1 and a shift of an eighth up or down, all times eight.
constexpr uint32_t kShiftedUp = 0x000901f9u, kShiftedDown = 0x0007fff7u;

// four bytes of index; a word of three high bits each, a scale of three bits, the shift's sign; d
struct IQ1_S : Blocks<IQ1_S, 256, 1, 0> {
    static constexpr int kSteps = 4;
    struct Raw {
        uint32_t index;
        uint16_t word, d;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load4(at.in(0, 32) + 4 * g), load2(at.in(32, 16) + 2 * g), load2(at.in(48, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const uint32_t numbers = raw.word & 0x8000 ? kShiftedDown : kShiftedUp;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const uint32_t entry = (raw.index >> 8 * k & 255) | (raw.word >> 3 * k & 7) << 8;
            choose_eight(__ldg(iq1_s_book + entry), numbers, codes.q + 2 * k);
        }
        const float scale = static_cast<float>(2 * (raw.word >> 12 & 7) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.125f);
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// four bytes of index; a nibble each of three high bits and the shift's sign; four words of four
// scales of three bits, whose top nibbles together are d
struct IQ1_M : Blocks<IQ1_M, 256, 2, 0> {
    static constexpr int kSteps = 4;
    struct Raw {
        uint32_t index;
        uint2 scales;
        uint16_t high;
    };
    DEVICE Raw load(const Matrix& matrix, int64_t row, int group) {
        const auto at = Place<256>::of(matrix, row, group);
        const int g = group % 8;
        return {load4(at.in(0, 32) + 4 * g), load8(at.in(48, 8)), load2(at.in(32, 16) + 2 * g)};
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        const int g = group % 8;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const uint32_t nibble = raw.high >> 4 * k & 15;
            const uint32_t entry = (raw.index >> 8 * k & 255) | (nibble & 7) << 8;
            choose_eight(__ldg(iq1_s_book + entry), nibble & 8 ? kShiftedDown : kShiftedUp,
                         codes.q + 2 * k);
        }
        const uint32_t d = (raw.scales.x >> 12 & 0xf) | (raw.scales.x >> 24 & 0xf0) |
                           (raw.scales.y >> 4 & 0xf00) | (raw.scales.y >> 16 & 0xf000);
        const uint32_t threes = (g < 4 ? raw.scales.x : raw.scales.y) >> (16 * (g / 2 % 2));
        const float eighth = half_low(d) * 0.125f;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint32_t three = threes >> (6 * (g % 2) + 3 * half) & 7;
            codes.scale[half] = eighth * static_cast<float>(2 * three + 1);
        }
        set_minimum(codes, 0.0f);
        return codes;
    }
};

}  // namespace hybrid
