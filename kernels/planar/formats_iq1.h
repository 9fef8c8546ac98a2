// IQ1: formats of 256 weights per block whose groups of eight are entries of a codebook.
// `group` counts 32 weights, eight a block.
#pragma once

#include "planar/books.h"
#include "planar/codebooks_iq1_iq3.h"

namespace hybrid {

// Numbers -1 0 1 and a shift of an eighth up or down, all times eight.
constexpr uint32_t kShiftedUp = 0x000901f9u, kShiftedDown = 0x0007fff7u;

using BookOfIq1 = SharedWords<2048, 1>;

DEVICE void fill_iq1(uint8_t* to) {
    BookOfIq1::fill(to, [](int entry) { return spread_pairs(__ldg(iq1_s_book + entry)); });
}

// four bytes of index; a word of three high bits each, a scale of three bits, the shift's sign; d
struct IQ1_S : Blocks<IQ1_S, 256, 1, 0> {
    static constexpr int kSteps = 4;
    static constexpr int kBookBytes = BookOfIq1::kBytes;
    DEVICE void fill_book(uint8_t* to) { fill_iq1(to); }
    struct Raw {
        uint32_t index;
        uint16_t word, d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load4(at.each(0, 4)), load2(at.each(32, 2)), load2(at.in(48, 2))};
    }
    DEVICE uint32_t entry(const Raw& raw, int k) {
        return byte_of(raw.index, k) | (raw.word >> 3 * k & 7) << 8;
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const uint32_t numbers = raw.word & 0x8000 ? kShiftedDown : kShiftedUp;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(spread_pairs(__ldg(iq1_s_book + entry(raw, k))), numbers, 0,
                         codes.q + 2 * k);
        const float scale = static_cast<float>(2 * (raw.word >> 12 & 7) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.125f);
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x, const uint8_t* shared) {
        const BookOfIq1 book = BookOfIq1::of(shared);
        const uint32_t numbers = raw.word & 0x8000 ? kShiftedDown : kShiftedUp;
        int q[8];
#pragma unroll
        for (int k = 0; k < 4; ++k) choose_eight(book[entry(raw, k)], numbers, 0, q + 2 * k);
        const Halves32 sums = dot_halves(q, x);
        const int product = (2 * (raw.word >> 12 & 7) + 1) * (sums.first + sums.last);
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product) * 0.125f);
    }
};

// four bytes of index; a nibble each of three high bits and the shift's sign; four words of four
// scales of three bits, whose top nibbles together are d
struct IQ1_M : Blocks<IQ1_M, 256, 2, 0> {
    static constexpr int kSteps = 4;
    static constexpr int kBookBytes = BookOfIq1::kBytes;
    DEVICE void fill_book(uint8_t* to) { fill_iq1(to); }
    struct Raw {
        uint32_t index;
        uint2 scales;
        uint16_t high;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load4(at.each(0, 4)), load8(at.in(48, 8)), load2(at.each(32, 2))};
    }
    DEVICE uint32_t entry(const Raw& raw, int k) {
        return byte_of(raw.index, k) | (raw.high >> 4 * k & 7) << 8;
    }
    DEVICE uint32_t numbers(const Raw& raw, int k) {
        return raw.high >> 4 * k & 8 ? kShiftedDown : kShiftedUp;
    }
    DEVICE float d(const Raw& raw) {
        return half_low((raw.scales.x >> 12 & 0xf) | (raw.scales.x >> 24 & 0xf0) |
                        (raw.scales.y >> 4 & 0xf00) | (raw.scales.y >> 16 & 0xf000));
    }
    DEVICE int scale(const Raw& raw, int group, int half) {
        const int g = group % 8;
        const uint32_t threes = (g < 4 ? raw.scales.x : raw.scales.y) >> (16 * (g / 2 % 2));
        return static_cast<int>(2 * (threes >> (6 * (g % 2) + 3 * half) & 7) + 1);
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(spread_pairs(__ldg(iq1_s_book + entry(raw, k))), numbers(raw, k), 0,
                         codes.q + 2 * k);
        const float eighth = d(raw) * 0.125f;
        codes.scale[0] = eighth * static_cast<float>(scale(raw, group, 0));
        codes.scale[1] = eighth * static_cast<float>(scale(raw, group, 1));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int group, const RoundedGroup& x, const uint8_t* shared) {
        const BookOfIq1 book = BookOfIq1::of(shared);
        int q[8];
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(book[entry(raw, k)], numbers(raw, k), 0, q + 2 * k);
        const Halves32 sums = dot_halves(q, x);
        const int product = scale(raw, group, 0) * sums.first + scale(raw, group, 1) * sums.last;
        return x.scale * (d(raw) * static_cast<float>(product) * 0.125f);
    }
};

}  // namespace hybrid
