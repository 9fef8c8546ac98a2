// Formats of 32 weights per block. Sources of all layouts: ggml-common.h and `reference.PLANES`.
#pragma once

#include "planar/rounded.h"

namespace hybrid {

// n4, d: weight = d (number - 8)
struct Q4_0 : Blocks<Q4_0, 32, 1, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint4 n4;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load2(at.in(16, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        nibbles(raw.n4, codes.q);
        centre<8>(codes.q);
        set_scale(codes, half_to_float(raw.d));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        int q[8];
        nibbles(raw.n4, q);
        const Halves32 sums = dot_halves_less<8>(q, x);
        return x.scale * (half_to_float(raw.d) * static_cast<float>(sums.first + sums.last));
    }
};

// n4, (d, m): weight = d number + m
struct Q4_1 : Blocks<Q4_1, 32, 1, 1> {
    struct Raw {
        uint4 n4;
        uint32_t dm;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load4(at.in(16, 4))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        nibbles(raw.n4, codes.q);
        set_scale(codes, half_low(raw.dm));
        set_minimum(codes, -half_high(raw.dm));
        return codes;
    }
};

// n4, n1, d: weight = d (number - 16)
struct Q5_0 : Blocks<Q5_0, 32, 1, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint4 n4;
        uint32_t n1;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load4(at.in(16, 4)), load2(at.in(20, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        nibbles(raw.n4, codes.q);
#pragma unroll
        for (int i = 0; i < 8; ++i) codes.q[i] |= one_bit<4>(raw.n1, i);
        centre<16>(codes.q);
        set_scale(codes, half_to_float(raw.d));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        int q[8];
        nibbles(raw.n4, q);
#pragma unroll
        for (int i = 0; i < 8; ++i) q[i] |= one_bit<4>(raw.n1, i);
        const Halves32 sums = dot_halves_less<16>(q, x);
        return x.scale * (half_to_float(raw.d) * static_cast<float>(sums.first + sums.last));
    }
};

// n4, n1, (d, m): weight = d number + m
struct Q5_1 : Blocks<Q5_1, 32, 1, 1> {
    struct Raw {
        uint4 n4;
        uint32_t n1, dm;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load4(at.in(16, 4)), load4(at.in(20, 4))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        nibbles(raw.n4, codes.q);
#pragma unroll
        for (int i = 0; i < 8; ++i) codes.q[i] |= one_bit<4>(raw.n1, i);
        set_scale(codes, half_low(raw.dm));
        set_minimum(codes, -half_high(raw.dm));
        return codes;
    }
};

// n8 in two planes, d: weight = d number
struct Q8_0 : Blocks<Q8_0, 32, 1, 0> {
    struct Raw {
        uint4 first, last;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load16(at.in(16, 16)), load2(at.in(32, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            codes.q[i] = static_cast<int>(word_of(raw.first, i));
            codes.q[i + 4] = static_cast<int>(word_of(raw.last, i));
        }
        set_scale(codes, half_to_float(raw.d));
        set_minimum(codes, 0.0f);
        return codes;
    }
};

// nibbles as NibbleTable says, d: weight = d table[number]
struct IQ4_NL : Blocks<IQ4_NL, 32, 1, 0> {
    static constexpr bool kWhole = true;
    using Raw = Q4_0::Raw;
    DEVICE Raw read(const Row& row, int group) { return Q4_0::read(row, group); }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        look_up_all(kNonlinear, raw.n4, codes.q);
        set_scale(codes, factor(raw, 0));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float factor(const Raw& raw, int) { return half_to_float(raw.d); }
    DEVICE float dot(const Raw& raw, int group, const RoundedGroup& x) {
        return x.scale *
               (factor(raw, group) * static_cast<float>(dot_table(kNonlinearHalves, raw.n4, x)));
    }
};

// nibbles as NibbleTable says, e: weight = 2^(e - 128) table[number]
struct MXFP4 : Blocks<MXFP4, 32, 1, 0> {
    static constexpr bool kWhole = true;
    struct Raw {
        uint4 n4;
        uint32_t exponent;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<32>::of(row, group);
        return {load16(at.in(0, 16)), load1(at.in(16, 1))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        look_up_all(kE2m1, raw.n4, codes.q);
        set_scale(codes, factor(raw));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float factor(const Raw& raw) {
        const uint32_t e = raw.exponent;  // below 2 it is subnormal
        return bits_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x) {
        return x.scale * (factor(raw) * static_cast<float>(dot_table(kE2m1Halves, raw.n4, x)));
    }
};

}  // namespace hybrid
