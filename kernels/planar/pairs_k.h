// Neighbours of the formats without a codebook, multiplied together: two groups of a row, which
// share scales and a factor, or the eight of a block of TQ1_0, which share bytes.
#pragma once

#include "planar/formats_k.h"
#include "planar/pairs.h"

namespace hybrid {

// Multiplies both groups of a row at once: Format::dot(words, x, less), less from Format::less(x).
template <class Format, int kStepsAtOnce, int... kBefore>
struct WholePairs : KnownPlanes<kBefore...> {
    static constexpr int kGroups = 2;
    static constexpr int kSteps = kStepsAtOnce;

    template <class Words, int kRows, class GroupOfX>
    DEVICE void add(const Words (&words)[kRows], int, const GroupOfX& group_of_x, const uint8_t*,
                    float (&sums)[kRows]) {
        const RoundedGroup x[2] = {group_of_x(0), group_of_x(1)};
        const Halves32 less[2] = {Pairs<Format>::less(x[0]), Pairs<Format>::less(x[1])};
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[r] += Pairs<Format>::dot(words[r], x, less);
    }
};

// The halves' sums, each within 16 bits, times two of the four scales.
DEVICE int dot_scales(const Halves32& sums, uint32_t scales, int which) {
    const int both = static_cast<int>(byte_permute(sums.first, sums.last, 0x5410));
    return which == 0 ? dp2a(both, static_cast<int>(scales), 0)
                      : dp2a_high(both, static_cast<int>(scales), 0);
}

template <>
struct Pairs<Q2_K> : WholePairs<Q2_K, 2, 0, 64, 80> {
    struct Words {
        uint4 n2;
        uint32_t dm, scales;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load4(planes.in<2>(unit, 4)),
                load4(planes.each<1>(unit, 2))};
    }
    DEVICE Halves32 less(const RoundedGroup&) { return {}; }
    DEVICE float dot(const Words& words, const RoundedGroup (&x)[2], const Halves32 (&)[2]) {
        const uint32_t scales = words.scales & 0x0f0f0f0fu,
                       minima = words.scales >> 4 & 0x0f0f0f0fu;
        float products = 0.0f, less = 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const Halves32 sums = dot_two_bits_times_four(half(words.n2, i), x[i]);
            const int of_x = static_cast<int>(x[i].sums), pairs = static_cast<int>(minima);
            const int minimum = i == 0 ? dp2a(of_x, pairs, 0) : dp2a_high(of_x, pairs, 0);
            products += x[i].scale * static_cast<float>(dot_scales(sums, scales, i));
            less += x[i].scale * static_cast<float>(minimum);
        }
        return half_low(words.dm) * 0.25f * products - half_high(words.dm) * less;
    }
};

template <>
struct Pairs<Q3_K> : WholePairs<Q3_K, 2, 0, 64, 96, 104, 108> {
    struct Words {
        uint4 n2;
        uint2 n1;
        uint16_t low, d;
        uint8_t high;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load8(planes.each<1>(unit, 4)),
                load2(planes.each<2>(unit, 1)), load2(planes.in<4>(unit, 2)),
                load1(planes.each_pair<3>(unit))};
    }
    // Four scales less 32, a signed byte each, from four low nibbles and four times two bits.
    DEVICE uint32_t scales_of(uint32_t low, uint32_t high) {
        const uint32_t twice = byte_permute(low, 0, 0x1100);
        const uint32_t nibbles = (twice & 0x000f000fu) | (twice >> 4 & 0x0f000f00u);
        const uint32_t apart = high * 0x1001u & 0x000f000fu;
        return ((nibbles | (apart * 0x410u & 0x30303030u)) + 0x60u * kOnes) ^ 0x80u * kOnes;
    }
    // Numbers are 4 less.
    DEVICE Halves32 less(const RoundedGroup& x) {
        return {dp2a(static_cast<int>(x.sums), 0x00fc, 0),
                dp2a(static_cast<int>(x.sums), 0xfc00, 0)};
    }
    // Sixteen numbers times four, from their two bits and, in the low nibbles of n1, their third
    // one: as they stand at the bits 0 and 2 of a byte, which is brought beside them.
    DEVICE int dot16(uint32_t n2, uint32_t n1, const uint4& x, int less) {
        const uint32_t high = n2 >> 4;
        const uint32_t even0 = (n2 & 3 * kOnes) | (n1 << 2 & 4 * kOnes);
        const uint32_t odd0 = (n2 & 12 * kOnes) | (n1 << 3 & 16 * kOnes);
        const uint32_t even1 = (high & 3 * kOnes) | (n1 & 4 * kOnes);
        const uint32_t odd1 = (high & 12 * kOnes) | (n1 << 1 & 16 * kOnes);
        int sum = dp4a(static_cast<int>(even0), static_cast<int>(x.x), less);
        sum = dp4a(static_cast<int>(even1), static_cast<int>(x.z), sum) * 4;
        sum = dp4a(static_cast<int>(odd0), static_cast<int>(x.y), sum);
        return dp4a(static_cast<int>(odd1), static_cast<int>(x.w), sum);
    }
    DEVICE float dot(const Words& words, const RoundedGroup (&x)[2], const Halves32 (&less)[2]) {
        const uint32_t scales = scales_of(words.low, words.high);
        float products = 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const uint2 n2 = half(words.n2, i);
            const uint32_t n1 = half(words.n1, i);
            const Halves32 sums = {dot16(n2.x, n1, x[i].first, less[i].first),
                                   dot16(n2.y, n1 >> 4, x[i].last, less[i].last)};
            products += x[i].scale * static_cast<float>(dot_scales(sums, scales, i));
        }
        return half_to_float(words.d) * 0.25f * products;
    }
};

template <>
struct Pairs<TQ2_0> : WholePairs<TQ2_0, 2, 0, 64> {
    struct Words {
        uint4 n2;
        uint16_t d;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load2(planes.in<1>(unit, 2))};
    }
    // Numbers are 1 less.
    DEVICE Halves32 less(const RoundedGroup& x) {
        return {dp2a(static_cast<int>(x.sums), 0xffff, 0), 0};
    }
    DEVICE float dot(const Words& words, const RoundedGroup (&x)[2], const Halves32 (&less)[2]) {
        float products = 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const Halves32 sums = dot_two_bits_times_four(half(words.n2, i), x[i], less[i]);
            products += x[i].scale * static_cast<float>(sums.first + sums.last);
        }
        return half_to_float(words.d) * 0.25f * products;
    }
};

// Four bytes of base-3 digits, which come one place after the other. The first k digits of a byte
// are a number: the byte times 3^k, of which the lowest eight bits are dropped. Even and odd bytes
// are multiplied apart, so that products have sixteen bits.
struct Digits {
    uint32_t even, odd, before;

    DEVICE Digits of(uint32_t bytes) {
        return {bytes & 0x00ff00ffu, byte_permute(bytes, 0, 0x4341), 0};
    }
    // The next digit of each, 0 to 2.
    __device__ __forceinline__ int next() {
        even *= 3;  // by the units that multiply, and the odd ones by those that add
        odd += static_cast<uint32_t>(unfolded(static_cast<int>(odd))) << 1;
        const uint32_t number = byte_permute(even, odd, 0x7351), digits = number - 3 * before;
        before = number;
        return static_cast<int>(digits);
    }
};

// A whole block, since a byte's digits belong to five groups: weight = d (digit - 1).
template <>
struct Pairs<TQ1_0> : KnownPlanes<0, 16, 32, 48, 52> {
    static constexpr int kGroups = 8, kSteps = 1;
    struct Words {
        uint4 first, last, behind;
        uint32_t fours;
        uint16_t d;
    };
    struct FourDigits {
        Digits of[4];

        __device__ __forceinline__ explicit FourDigits(const uint4& words)
            : of{Digits::of(words.x), Digits::of(words.y), Digits::of(words.z),
                 Digits::of(words.w)} {}
        // The next digit of sixteen weights times x.
        __device__ __forceinline__ int dot(const uint4& x, int sum) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                sum = dp4a(of[i].next(), static_cast<int>(word_of(x, i)), sum);
            return sum;
        }
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.in<0>(unit, 16)), load16(planes.in<1>(unit, 16)),
                load16(planes.in<2>(unit, 16)), load4(planes.in<3>(unit, 4)),
                load2(planes.in<4>(unit, 2))};
    }
    // Digits are 1 more than weights.
    DEVICE int less(const RoundedGroup& x) { return dp2a(static_cast<int>(x.sums), 0xffff, 0); }
    template <int kRows, class GroupOfX>
    DEVICE void add(const Words (&words)[kRows], int, const GroupOfX& group_of_x, const uint8_t*,
                    float (&sums)[kRows]) {
        float products[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            products[r] = 0.0f;
            FourDigits first(words[r].first), last(words[r].last);
#pragma unroll
            for (int i = 0; i < 5; ++i) {
                const RoundedGroup x = group_of_x(i);
                const int sum = last.dot(x.last, first.dot(x.first, less(x)));
                products[r] += x.scale * static_cast<float>(sum);
            }
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            FourDigits behind(words[r].behind);
            Digits fours = Digits::of(words[r].fours);
#pragma unroll
            for (int i = 5; i < 8; ++i) {
                const RoundedGroup x = group_of_x(i);
                int sum = behind.dot(x.first, less(x));
                if (i < 7) {
                    sum = behind.dot(x.last, sum);
                } else {
#pragma unroll
                    for (int k = 0; k < 4; ++k)
                        sum = dp4a(fours.next(), static_cast<int>(word_of(x.last, k)), sum);
                }
                products[r] += x.scale * static_cast<float>(sum);
            }
            sums[r] += half_to_float(words[r].d) * products[r];
        }
    }
};

}  // namespace hybrid
