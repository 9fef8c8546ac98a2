// IQ3: formats of 256 weights per block whose groups of four are entries of a codebook.
// `group` counts 32 weights, eight a block.
#pragma once

#include "planar/books.h"
#include "planar/codebooks_iq1_iq3.h"

namespace hybrid {

// 4 12 20 28 36 44 52 62
DEVICE uint32_t numbers_of_iq3_xxs(uint32_t fields) {
    return byte_permute(0x1c140c04u, 0x3e342c24u, fields);
}

// 1 3 5 7 9 11 13 15
DEVICE uint32_t numbers_of_iq3_s(uint32_t fields) {
    return byte_permute(0x07050301u, 0x0f0d0b09u, fields);
}

// The book of IQ3_XXS has the numbers themselves. Where a sign is set a number's bits are turned,
// which gives one less than its negative; what that takes away is added again: the sum of x where
// it is set.
template <class Book, class Index, class Sign>
DEVICE int dot_iq3(const Book& book, const Index& index, const Sign& sign, const RoundedGroup& x) {
    int turned[2] = {0, 0}, missing[2] = {0, 0};  // no product waits for another
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const uint32_t signs = book.signs[sign(i / 2)] >> 16 * (i % 2);
        const int mask = static_cast<int>(byte_permute(0, 0xffffffffu, signs));
        const int of_x = static_cast<int>(word_of(i < 4 ? x.first : x.last, i % 4));
        turned[i / 4] = dp4a(static_cast<int>(book.entries[index(i)]) ^ mask, of_x, turned[i / 4]);
        missing[i / 4] = dp4a(mask, of_x, missing[i / 4]);
    }
    return turned[0] + turned[1] - (missing[0] + missing[1]);
}

template <class Book>
DEVICE void fill_signs_of_iq3(uint8_t* to) {
    Book::Signs::fill(to + Book::Entries::kBytes,
                      [](int signs) { return spread_signs(even_signs(signs)); });
}

// eight indices, a word of four times seven signs and a scale of four bits, d
struct IQ3_XXS : Blocks<IQ3_XXS, 256, 1, 0> {
    using Book = SignedBook<256, 32, 128, 16>;
    static constexpr int kBookBytes = Book::kBytes;
    DEVICE void fill_book(uint8_t* to) {
        Book::Entries::fill(
            to, [](int entry) { return numbers_of_iq3_xxs(__ldg(iq3_xxs_book + entry)); });
        fill_signs_of_iq3<Book>(to);
    }
    struct Raw {
        uint2 index;
        uint32_t word;
        uint16_t d;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load8(at.each(0, 8)), load4(at.each(64, 4)), load2(at.in(96, 2))};
    }
    DEVICE uint32_t entry(const Raw& raw, int i) {
        return byte_of(i < 4 ? raw.index.x : raw.index.y, i % 4);
    }
    DEVICE Codes decode(const Raw& raw, int) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 8; ++k)
            codes.q[k] = static_cast<int>(numbers_of_iq3_xxs(__ldg(iq3_xxs_book + entry(raw, k))));
        negate_all(codes.q, even_signs(raw.word));
        const float scale = static_cast<float>(2 * (raw.word >> 28) + 1);
        set_scale(codes, half_to_float(raw.d) * scale * 0.25f);
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int, const RoundedGroup& x, const uint8_t* book) {
        const int sum = dot_iq3(
            Book::of(book), [&](int i) { return entry(raw, i); },
            [&](int k) { return raw.word >> 7 * k & 127; }, x);
        const int product = static_cast<int>(2 * (raw.word >> 28) + 1) * sum;
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product) * 0.25f);
    }
};

// eight indices, signs as n1, a byte of the indices' ninth bits, a nibble of scale, d
struct IQ3_S : Blocks<IQ3_S, 256, 1, 0> {
    // Numbers are odd: half of what is 1 less.
    using Book = SharedWords<512, 16>;
    static constexpr int kBookBytes = Book::kBytes;
    DEVICE void fill_book(uint8_t* to) {
        Book::fill(to, [](int entry) {
            return byte_permute(0x03020100u, 0x07060504u, __ldg(iq3_s_book + entry));
        });
    }
    struct Raw {
        uint2 index;
        uint32_t signs;
        uint16_t d;
        uint8_t high, scales;
    };
    DEVICE Raw read(const Row& row, int group) {
        const auto at = Place<256>::of(row, group);
        const int g = group % 8;
        return {load8(at.each(0, 8)), load4(at.each(64, 4)), load2(at.in(108, 2)),
                load1(at.each(96, 1)), load1(at.each_pair(104))};
    }
    DEVICE uint32_t entry(const Raw& raw, int i) {
        const uint32_t four = i < 4 ? raw.index.x : raw.index.y;
        return byte_of(four, i % 4) | (raw.high >> i & 1) << 8;
    }
    // Where the entry stands in the book, in bytes.
    DEVICE uint32_t place(const Raw& raw, int i) {
        const uint32_t four = i < 4 ? raw.index.x : raw.index.y;
        const uint32_t low = i % 4 == 0 ? four << 6 : four >> (8 * (i % 4) - 6);
        return (low & 0xffu << 6) | (static_cast<uint32_t>(raw.high) << (14 - i) & 1u << 14);
    }
    // Of the numbers of the i-th four: a byte of ones where one is negative.
    DEVICE uint32_t negative(const Raw& raw, int i) {
        return byte_permute(raw.signs << (7 - i), 0, 0xba98);
    }
    DEVICE Codes decode(const Raw& raw, int group) {
        Codes codes;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const uint32_t ones = negative(raw, k), number = __ldg(iq3_s_book + entry(raw, k));
            codes.q[k] = static_cast<int>((numbers_of_iq3_s(number) ^ ones) + (ones & kOnes));
        }
        const int scale = raw.scales >> 4 * (group & 1) & 15;
        set_scale(codes, half_to_float(raw.d) * static_cast<float>(2 * scale + 1));
        set_minimum(codes, 0.0f);
        return codes;
    }
    DEVICE float dot(const Raw& raw, int group, const RoundedGroup& x, const uint8_t* book) {
        // All bits turned, h is -h - 1: so 2 h + 1 changes its sign.
        const Book entries = Book::of(book);
        int halves[2] = {0, 0};  // no product waits for another
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const uint32_t half = entries.at(place(raw, i)) ^ negative(raw, i);
            const uint32_t of_x = word_of(i < 4 ? x.first : x.last, i % 4);
            halves[i / 4] = dp4a(static_cast<int>(half), static_cast<int>(of_x), halves[i / 4]);
        }
        const int sum = dp2a(static_cast<int>(x.sums), 0x0101, 2 * (halves[0] + halves[1]));
        const int product = (2 * (raw.scales >> 4 * (group & 1) & 15) + 1) * sum;
        return x.scale * (half_to_float(raw.d) * static_cast<float>(product));
    }
};

}  // namespace hybrid
