// IQ2: formats of 256 weights per block whose groups of eight are entries of a codebook.
// `group` counts 32 weights, eight a block.
#pragma once

#include "planar/books.h"
#include "planar/codebooks_iq2.h"

namespace hybrid {

constexpr uint32_t kNumbersOfIq2 = 0x002b1908u;  // 8 25 43
constexpr uint32_t kNegativesOfIq2 = 0x00d5e7f8u;

// Entry k of a group is index(k), its signs sign(k).
template <class Book, class Index, class Sign>
DEVICE Halves32 dot_iq2(const Book& book, const Index& index, const Sign& sign,
                        const RoundedGroup& x) {
    int q[8];
#pragma unroll
    for (int k = 0; k < 4; ++k)
        choose_eight(book.entries[index(k)] | book.signs[sign(k)], kNumbersOfIq2, kNegativesOfIq2,
                     q + 2 * k);
    return dot_halves(q, x);
}

template <class Book>
DEVICE void fill_iq2(uint8_t* to, const uint16_t* book) {
    Book::Entries::fill(to, [&](int entry) { return spread_pairs(__ldg(book + entry)); });
    Book::Signs::fill(to + Book::Entries::kBytes, [](int signs) {
        return spread_signs(Book::kEven ? even_signs(signs) : signs);
    });
}

// qs (four indices; four times seven signs and a scale of four bits), d
struct IQ2_XXS : Blocks<IQ2_XXS, 256, 1, 0> {
    static constexpr int kSteps = 4;
    struct Book : SignedBook<256, 32, 128, 16> {
        static constexpr bool kEven = true;
    };
    static constexpr int kBookBytes = Book::kBytes;
    DEVICE void fill_book(uint8_t* to) { fill_iq2<Book>(to, iq2_xxs_book); }
    struct Raw {
        uint2 qs;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        return {load8(at.each(0, 8)), load2(at.in(64, 2))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(spread_pairs(__ldg(iq2_xxs_book + (raw.qs.x >> 8 * k & 255))),
                         kNumbersOfIq2, 0, codes.q + 2 * k);
        negate_all(codes.q, even_signs(raw.qs.y));
        const float scale = static_cast<float>(2 * (raw.qs.y >> 28) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.125f);
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x, const uint8_t* book) {
        const Halves32 sums = dot_iq2(
            Book::of(book), [&](int k) { return byte_of(raw.qs.x, k); },
            [&](int k) { return raw.qs.y >> 7 * k & 127; }, x);
        const int product = static_cast<int>(2 * (raw.qs.y >> 28) + 1) * (sums.first + sums.last);
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product) * 0.125f);
    }
};

// The two scales of a byte of nibbles n: d (2 n + 1) / 8.
DEVICE void set_two_scales(Codes& codes, float d, uint32_t scales) {
    codes.scale[0] = d * static_cast<float>(2 * (scales & 15) + 1) * 0.125f;
    codes.scale[1] = d * static_cast<float>(2 * (scales >> 4 & 15) + 1) * 0.125f;
}

// The same of the two sums of products.
DEVICE float times_two_scales(const Halves32& sums, float d, uint32_t scales) {
    const int product = static_cast<int>(2 * (scales & 15) + 1) * sums.first +
                        static_cast<int>(2 * (scales >> 4 & 15) + 1) * sums.last;
    return d * static_cast<float>(product) * 0.125f;
}

// four words of an index (nine bits) and seven signs, a byte of two scales, d
struct IQ2_XS : Blocks<IQ2_XS, 256, 2, 0> {
    static constexpr int kSteps = 4;
    struct Book : SignedBook<512, 16, 128, 16> {
        static constexpr bool kEven = true;
    };
    static constexpr int kBookBytes = Book::kBytes;
    DEVICE void fill_book(uint8_t* to) { fill_iq2<Book>(to, iq2_xs_book); }
    struct Raw {
        uint2 qs;
        uint16_t d;
        uint8_t scales;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load8(at.each(0, 8)), load2(at.in(72, 2)), load1(at.each(64, 1))};
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
        const uint32_t words[4] = {raw.qs.x & 0xffff, raw.qs.x >> 16, raw.qs.y & 0xffff,
                                   raw.qs.y >> 16};
        uint32_t sevens = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            choose_eight(spread_pairs(__ldg(iq2_xs_book + (words[k] & 511))), kNumbersOfIq2, 0,
                         codes.q + 2 * k);
            sevens |= words[k] >> 9 << 7 * k;
        }
        negate_all(codes.q, even_signs(sevens));
        set_two_scales(codes, half_to_float(raw.d), raw.scales);
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x, const uint8_t* book) {
        const auto word = [&](int k) { return (k < 2 ? raw.qs.x : raw.qs.y) >> 16 * (k % 2); };
        const Halves32 sums = dot_iq2(
            Book::of(book), [&](int k) { return word(k) & 511; },
            [&](int k) { return word(k) >> 9 & 127; }, x);
        return x.scale * times_two_scales(sums, half_to_float(raw.d), raw.scales);
    }
};

// four bytes of index, four of signs, a byte of the indices' ninth and tenth bits, one of scales, d
struct IQ2_S : Blocks<IQ2_S, 256, 2, 0> {
    struct Book : SignedBook<1024, 8, 256, 8> {
        static constexpr bool kEven = false;
    };
    static constexpr int kBookBytes = Book::kBytes;
    DEVICE void fill_book(uint8_t* to) { fill_iq2<Book>(to, iq2_s_book); }
    struct Raw {
        uint32_t index, signs;
        uint16_t d;
        uint8_t high, scales;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load4(at.each(0, 4)), load4(at.each(32, 4)), load2(at.in(80, 2)),
                load1(at.each(64, 1)), load1(at.each(72, 1))};
    }
    DEVICE uint32_t entry(const Raw& raw, int k) {
        return byte_of(raw.index, k) | (raw.high >> 2 * k & 3) << 8;
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            choose_eight(spread_pairs(__ldg(iq2_s_book + entry(raw, k))), kNumbersOfIq2, 0,
                         codes.q + 2 * k);
        negate_all(codes.q, raw.signs);
        set_two_scales(codes, half_to_float(raw.d), raw.scales);
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x, const uint8_t* book) {
        const Halves32 sums = dot_iq2(
            Book::of(book), [&](int k) { return entry(raw, k); },
            [&](int k) { return byte_of(raw.signs, k); }, x);
        return x.scale * times_two_scales(sums, half_to_float(raw.d), raw.scales);
    }
};

}  // namespace hybrid
