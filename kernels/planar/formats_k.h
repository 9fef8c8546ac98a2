// Formats of 256 weights per block without a codebook; `group` counts 32 weights, eight a block.
#pragma once

#include "planar/rounded.h"

namespace hybrid {

// n2, sixteen bytes of scale | minimum << 4, (d, dmin)
struct Q2_K : Blocks<Q2_K, 256, 2, 2> {
    static constexpr int kSteps = 4;
    static constexpr bool kWhole = true;
    struct Raw {
        uint2 n2;
        uint32_t dm;
        uint16_t scales;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load8(at.each(0, 8)), load4(at.in(80, 4)), load2(at.each(64, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const float d = half_low(raw.dm), dmin = half_high(raw.dm);
#pragma unroll
        for (int i = 0; i < 8; ++i) codes.q[i] = two_bits<0>(raw.n2, i);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            codes.scale[half] = d * static_cast<float>(raw.scales >> 8 * half & 15);
            codes.minimum[half] = dmin * static_cast<float>(raw.scales >> (8 * half + 4) & 15);
        }
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        const Halves32 sums = dot_two_bits_times_four(raw.n2, x);  // within 16 bits
        const int both = static_cast<int>(byte_permute(sums.first, sums.last, 0x5410));
        const int product = dp2a(both, raw.scales & 0x0f0f, 0);
        const int minimum = dp2a(static_cast<int>(x.sums), raw.scales >> 4 & 0x0f0f, 0);
        return x.scale * (half_low(raw.dm) * 0.25f * static_cast<float>(product) -
                          half_high(raw.dm) * static_cast<float>(minimum));
    }
};

// n2, n1, a byte per 32 of two scales' low nibbles, a nibble per 32 of their high bits, d:
// weight = d (scale - 32) (number - 4)
struct Q3_K : Blocks<Q3_K, 256, 2, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint2 n2;
        uint32_t n1;
        uint8_t low, high;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load8(at.each(0, 8)), load4(at.each(64, 4)), load1(at.each(96, 1)),
                load1(at.each_pair(104)), load2(at.in(108, 2))};
    }
    DEVICE void numbers(const Raw& raw, int (&q)[8]) {
#pragma unroll
        for (int i = 0; i < 8; ++i) q[i] = two_bits<0>(raw.n2, i) | one_bit<2>(raw.n1, i);
    }
    DEVICE int scale(const Raw& raw, int group, int half) {
        const int low = raw.low >> 4 * half & 15, high = raw.high >> (4 * (group % 2) + 2 * half);
        return (low | (high & 3) << 4) - 32;
    }
    // Both scales, a signed byte each.
    DEVICE int both_scales(const Raw& raw, int group) {
        const uint32_t high = group % 2 == 0 ? raw.high & 15u : raw.high >> 4;
        const uint32_t low = (raw.low | raw.low << 4) & 0x0f0fu;
        const uint32_t scales = low | ((high << 4 | high << 10) & 0x3030u);
        return static_cast<int>((scales + 0x6060u) ^ 0x8080u);
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        const float d = half_to_float(raw.d);
        numbers(raw, codes.q);
        centre<4>(codes.q);
        codes.scale[0] = d * static_cast<float>(scale(raw, group, 0));
        codes.scale[1] = d * static_cast<float>(scale(raw, group, 1));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int group, const RoundedGroup& x) {
        int q[8];
        numbers(raw, q);
        const Halves32 sums = dot_halves(q, x);
        const int both = static_cast<int>(byte_permute(sums.first, sums.last, 0x5410));
        const int scales = both_scales(raw, group);
        const int product = dp2a(both, scales, 0) - 4 * dp2a(static_cast<int>(x.sums), scales, 0);
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product));
    }
};

// The 16 bytes of Q4_K and Q5_K: (d, dmin); a byte of scale | minimum << 4 per 32; a nibble of
// their high bits per 32.
DEVICE void read_header(const uint4& header, int group, Codes& codes) {
    const int g = group % 8;
    const uint32_t low = (g < 4 ? header.y : header.z) >> 8 * (g % 4);
    const uint32_t high = header.w >> 4 * g;
    set_scale(codes, half_low(header.x) * static_cast<float>(low & 15 | (high & 3) << 4));
    set_minimum(codes,
                half_high(header.x) * static_cast<float>(low >> 4 & 15 | (high >> 2 & 3) << 4));
}

// n4, header
struct Q4_K : Blocks<Q4_K, 256, 1, 1> {
    struct Raw {
        uint4 n4, header;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        return {load16(at.each(0, 16)), load16(at.in(128, 16))};
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        nibbles(raw.n4, codes.q);
        read_header(raw.header, group, codes);
        return codes;
    }
};

// n4, n1, header
struct Q5_K : Blocks<Q5_K, 256, 1, 1> {
    struct Raw {
        uint4 n4, header;
        uint32_t n1;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load16(at.each(0, 16)), load16(at.in(160, 16)), load4(at.each(128, 4))};
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        nibbles(raw.n4, codes.q);
#pragma unroll
        for (int i = 0; i < 8; ++i) codes.q[i] |= one_bit<4>(raw.n1, i);
        read_header(raw.header, group, codes);
        return codes;
    }
};

// n4, n2, sixteen signed scales, d: weight = d scale (number - 32)
struct Q6_K : Blocks<Q6_K, 256, 2, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint4 n4;
        uint2 n2;
        uint16_t scales, d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load16(at.each(0, 16)), load8(at.each(128, 8)), load2(at.each(192, 2)),
                load2(at.in(208, 2))};
    }
    DEVICE void numbers(const Raw& raw, int (&q)[8]) {
        nibbles(raw.n4, q);
#pragma unroll
        for (int i = 0; i < 8; ++i) q[i] |= two_bits<4>(raw.n2, i);
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const float d = half_to_float(raw.d);
        numbers(raw, codes.q);
        centre<32>(codes.q);
        codes.scale[0] = d * static_cast<float>(static_cast<int8_t>(raw.scales));
        codes.scale[1] = d * static_cast<float>(static_cast<int8_t>(raw.scales >> 8));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        int q[8];
        numbers(raw, q);
        const Halves32 sums = dot_halves_less<32>(q, x);
        const int product = static_cast<int8_t>(raw.scales) * sums.first +
                            static_cast<int8_t>(raw.scales >> 8) * sums.last;
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product));
    }
};

// nibbles as NibbleTable says; eight bytes: d, two high bits of each scale, a low nibble of each:
// weight = d (scale - 32) table[number]
struct IQ4_XS : Blocks<IQ4_XS, 256, 1, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint4 n4;
        uint2 header;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        return {load16(at.each(0, 16)), load8(at.in(128, 8))};
    }
    DEVICE float factor(const Raw& raw, int group) {
        const int g = group % 8;
        const int low = raw.header.y >> 4 * g & 15, high = raw.header.x >> (16 + 2 * g) & 3;
        return half_low(raw.header.x) * static_cast<float>((low | high << 4) - 32);
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        look_up_all(kNonlinear, raw.n4, codes.q);
        set_scale(codes, factor(raw, group));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int group, const RoundedGroup& x) {
        return x.scale *
               (factor(raw, group) * static_cast<float>(dot_table(kNonlinearHalves, raw.n4, x)));
    }
};

// n2, d: weight = d (number - 1)
struct TQ2_0 : Blocks<TQ2_0, 256, 1, 0> {
    static constexpr int kSteps = 4;
    static constexpr bool kWhole = true;
    struct Raw {
        uint2 n2;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        return {load8(at.each(0, 8)), load2(at.in(64, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int i = 0; i < 8; ++i) codes.q[i] = two_bits<0>(raw.n2, i);
        centre<1>(codes.q);
        set_scale(codes, half_to_float(raw.d));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        const Halves32 sums = dot_two_bits_times_four(raw.n2, x);
        const int sum = sums.first + sums.last - 4 * (x.sum_first() + x.sum_last());
        return x.scale * (half_to_float(raw.d) * 0.25f * static_cast<float>(sum));
    }
};

// three times 16 bytes of five base-3 digits, 4 bytes of four, d. A byte is a fraction of 256:
// times 3 to the digit's place it loses the digits before, and once more times 3 its overflow is
// the digit. Groups 0-4: a digit of 32 bytes; 5, 6: two of the last 16; 7: their last and the four
// bytes.
struct TQ1_0 : Blocks<TQ1_0, 256, 1, 0> {
    static constexpr int kSteps = 1;
    struct Raw {
        uint4 first, last;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        Raw raw;
        raw.first = load16(at.in(g < 5 ? 0 : 32, 16));
        raw.last = load16(at.in(g < 5 ? 16 : 32, 16));
        if (g == 7) raw.last.x = load4(at.in(48, 4));
        raw.d = load2(at.in(52, 2));
        return raw;
    }
    // The digit `place` of four bytes, 0 to 2 each.
    DEVICE int digits(uint32_t bytes, int place) {
        const uint32_t power = place == 0   ? 1
                               : place == 1 ? 3
                               : place == 2 ? 9
                               : place == 3 ? 27
                                            : 81;
        const uint32_t even = (bytes & 0x00ff00ffu) * power & 0x00ff00ffu;
        const uint32_t odd = (bytes >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
        return static_cast<int>((even * 3 >> 8 & 0x00030003u) | (odd * 3 & 0x03000300u));
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
        const int g = group % 8;
        const int place = g < 5 ? g : g == 5 ? 0 : g == 6 ? 2 : 4;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            codes.q[i] = digits(word_of(raw.first, i), place);
            codes.q[i + 4] = g == 7 ? digits(raw.last.x, i)
                                    : digits(word_of(raw.last, i), g < 5 ? place : place + 1);
        }
        centre<1>(codes.q);
        set_scale(codes, half_to_float(raw.d));
        set_minimum(codes, 0.0f);
        return codes;
    }
};

}  // namespace hybrid
