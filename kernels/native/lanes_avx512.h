// AVX-512 F, BW, DQ, VL, VNNI: 64 bytes are one register.
#pragma once

#include <immintrin.h>

namespace hybrid::HYBRID_TIER {

using Bytes = __m512i;
using Words = __m512i;
using Sums = __m512i;
using Lanes = __m512;
using Floats8 = __m256;
using Scales = __m256i;

struct Signed {
    Bytes magnitude;
    __mmask64 negative;
};

constexpr int kLanes = 16;

// Numbers beyond -64 .. 63 are taken as unsigned ones this much larger.
constexpr int kWideOffset = 128;

inline Bytes load_bytes(const void* bytes) {
    return _mm512_loadu_si512(bytes);
}

inline void store_bytes(Bytes bytes, void* out) {
    _mm512_storeu_si512(out, bytes);
}

inline Bytes all_bytes(int value) {
    return _mm512_set1_epi8(static_cast<char>(value));
}

inline Bytes join(const void* first_32, const void* last_32) {
    const __m256i first = _mm256_loadu_si256(static_cast<const __m256i*>(first_32));
    const __m256i last = _mm256_loadu_si256(static_cast<const __m256i*>(last_32));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), last, 1);
}

// 16 or 32 bytes again and again.
inline Bytes repeated_16(const void* bytes) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(bytes)));
}

inline Bytes repeated_32(const void* bytes) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(bytes)));
}

// 32 bytes, then 16 others twice.
inline Bytes join_48(const void* bytes_48) {
    const auto* bytes = static_cast<const __m128i*>(bytes_48);
    return _mm512_mask_broadcast_i32x4(repeated_32(bytes), 0xFF00, _mm_loadu_si128(bytes + 2));
}

// 16 bytes three times, then four others four times.
inline Bytes join_16_4(const void* bytes_16, const void* bytes_4) {
    int four;
    std::memcpy(&four, bytes_4, 4);
    return _mm512_mask_set1_epi32(repeated_16(bytes_16), 0xF000, four);
}

// 3 x in the lanes whose bit is set, else x; modulo 256.
inline Bytes times_three(Bytes x, std::uint64_t lanes) {
    return _mm512_mask_add_epi8(x, lanes, x, _mm512_add_epi8(x, x));
}

// 3 x / 256, rounded down: 0 below 86, 2 from 171 on.
inline Bytes thirds(Bytes x) {
    const __m512i one = _mm512_maskz_set1_epi8(_mm512_cmpgt_epu8_mask(x, all_bytes(85)), 1);
    return _mm512_mask_set1_epi8(one, _mm512_cmpgt_epu8_mask(x, all_bytes(170)), 2);
}

// Bits `shift` .. of 32 bytes, then bits `next` .. of the same bytes, each `mask`ed. A negative
// shift goes left: rotating is both.
inline Bytes fields(const void* bytes_32, int shift, int next, int mask) {
    const __m512i shifts = _mm512_set_epi64(next, next, next, next, shift, shift, shift, shift);
    return _mm512_and_si512(_mm512_rorv_epi64(repeated_32(bytes_32), shifts), all_bytes(mask));
}

// The nibbles of 16 bytes, low ones first, then those of 16 others.
inline Bytes nibbles_of_two(const void* first_16, const void* last_16) {
    const __m128i last = _mm_loadu_si128(static_cast<const __m128i*>(last_16));
    const __m512i twice = _mm512_mask_broadcast_i32x4(repeated_16(first_16), 0xFF00, last);
    const __m512i shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    return _mm512_and_si512(_mm512_srlv_epi64(twice, shifts), all_bytes(15));
}

// `value` in the lanes whose bit is set, else 0.
inline Bytes where_set(std::uint64_t bits, int value) {
    return _mm512_maskz_set1_epi8(bits, static_cast<char>(value));
}

inline Bytes bit_or(Bytes a, Bytes b) {
    return _mm512_or_si512(a, b);
}

inline Bytes plus(Bytes a, Bytes b) {
    return _mm512_add_epi8(a, b);
}

// Bits `shift` .. of 64 bytes, masked.
inline Bytes field(const void* bytes_64, int shift, int mask) {
    return _mm512_and_si512(_mm512_srli_epi64(load_bytes(bytes_64), shift), all_bytes(mask));
}

inline __m512i table_of(const std::int8_t* table_16) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table_16)));
}

inline Bytes lookup(const std::int8_t* table_16, Bytes nibbles) {
    return _mm512_shuffle_epi8(table_of(table_16), nibbles);
}

// Numbers of a table of 16 that needs all of int8, by nibbles.
inline Bytes wide_lookup(const std::int8_t* table_16, Bytes nibbles) {
    const __m512i table = _mm512_xor_si512(table_of(table_16), all_bytes(0x80));
    return _mm512_shuffle_epi8(table, nibbles);
}

inline Bytes wide(Bytes numbers) {
    return _mm512_xor_si512(numbers, all_bytes(0x80));
}

inline Signed signed_of(Bytes numbers) {
    return {_mm512_abs_epi8(numbers), _mm512_movepi8_mask(numbers)};
}

// Of a table whose first eight numbers are the negative ones.
inline Signed signed_lookup(const std::int8_t* table_16, Bytes nibbles) {
    const __m512i magnitudes = _mm512_abs_epi8(table_of(table_16));
    return {_mm512_shuffle_epi8(magnitudes, nibbles),
            _mm512_testn_epi8_mask(nibbles, all_bytes(8))};
}

// Eight entries of eight bytes.
inline Bytes entries(const std::int8_t (*book)[8], const std::uint32_t (&index)[8]) {
    long long entry[8];
    for (int i = 0; i < 8; ++i) std::memcpy(entry + i, book[index[i]], 8);
    return _mm512_set_epi64(entry[7], entry[6], entry[5], entry[4], entry[3], entry[2], entry[1],
                            entry[0]);
}

// Sixteen entries of four bytes.
inline Bytes entries(const std::int8_t (*book)[4], const std::uint32_t (&index)[16]) {
    std::uint64_t two[8];
    for (int i = 0; i < 8; ++i) {
        std::uint32_t low, high;
        std::memcpy(&low, book[index[2 * i]], 4);
        std::memcpy(&high, book[index[2 * i + 1]], 4);
        two[i] = low | static_cast<std::uint64_t>(high) << 32;
    }
    return _mm512_set_epi64(static_cast<long long>(two[7]), static_cast<long long>(two[6]),
                            static_cast<long long>(two[5]), static_cast<long long>(two[4]),
                            static_cast<long long>(two[3]), static_cast<long long>(two[2]),
                            static_cast<long long>(two[1]), static_cast<long long>(two[0]));
}

// Magnitudes and one sign bit for each.
inline Signed with_signs(Bytes magnitude, std::uint64_t negative) {
    return {magnitude, negative};
}

inline Bytes flip(Bytes x, __mmask64 negative) {
    return _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
}

// Sums of two neighbouring products; numbers up to 128 cannot overflow.
inline Words products(Bytes numbers, Bytes x) {
    return _mm512_maddubs_epi16(numbers, x);
}

inline Words products(const Signed& numbers, Bytes x) {
    return _mm512_maddubs_epi16(numbers.magnitude, flip(x, numbers.negative));
}

// One scale for each lane of the products of quarter 0 .. 3.
inline Words scale_words(Scales scales, int quarter) {
    const __m512i first =
        _mm512_set_epi64(0x0003000300030003, 0x0003000300030003, 0x0002000200020002,
                         0x0002000200020002, 0x0001000100010001, 0x0001000100010001, 0, 0);
    const __m512i index =
        _mm512_add_epi16(first, _mm512_set1_epi16(static_cast<short>(4 * quarter)));
    return _mm512_permutexvar_epi16(index, _mm512_castsi256_si512(scales));
}

inline Sums no_sums() {
    return _mm512_setzero_si512();
}

inline Sums add_scaled(Sums sums, Words products, Words scales) {
    return _mm512_dpwssd_epi32(sums, products, scales);
}

// Products of two blocks that are scaled by floats; no saturation: numbers up to 255.
inline Sums block_products(Bytes numbers, Bytes x) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), numbers, x);
}

inline Sums block_products(const Signed& numbers, Bytes x) {
    return block_products(numbers.magnitude, flip(x, numbers.negative));
}

// The 16-bit words (of an odd stride: bytes) that begin eight blocks, kStride bytes apart. Whole
// registers are read, none beyond the eighth block, and the words picked out of two of them at a
// time.
template <int kStride>
inline __m128i eight_words(const void* first) {
    const auto* bytes = static_cast<const std::uint8_t*>(first);
    constexpr int w = kStride / 2, odd = kStride % 2;
    if constexpr (kStride <= 20) {
        const __m512i index = _mm512_castsi128_si512(_mm_set_epi16(
            32 + 3 * w + odd, 32 + 2 * w + odd, 32 + w, 32, 3 * w + odd, 2 * w + odd, w, 0));
        const __m128i words = _mm512_castsi512_si128(
            _mm512_permutex2var_epi16(load_bytes(bytes), index, load_bytes(bytes + 4 * kStride)));
        return odd ? _mm_srlv_epi16(words, _mm_set_epi16(8, 0, 8, 0, 8, 0, 8, 0)) : words;
    } else if constexpr (kStride <= 24) {
        constexpr int kLast = 5 * kStride, at = w;  // of the third register
        const __m512i six =
            _mm512_castsi128_si512(_mm_set_epi16(0, 0, 32 + 2 * w, 32 + w, 32, 2 * w, w, 0));
        const __m512i all =
            _mm512_castsi128_si512(_mm_set_epi16(32 + at + w, 32 + at, 5, 4, 3, 2, 1, 0));
        const __m512i first_six =
            _mm512_permutex2var_epi16(load_bytes(bytes), six, load_bytes(bytes + 3 * kStride));
        return _mm512_castsi512_si128(
            _mm512_permutex2var_epi16(first_six, all, load_bytes(bytes + kLast)));
    } else {
        const __m512i four = _mm512_castsi128_si512(_mm_set_epi16(0, 0, 0, 0, 32 + w, 32, w, 0));
        const __m512i low =
            _mm512_permutex2var_epi16(load_bytes(bytes), four, load_bytes(bytes + 2 * kStride));
        const __m512i high = _mm512_permutex2var_epi16(load_bytes(bytes + 4 * kStride), four,
                                                       load_bytes(bytes + 6 * kStride));
        return _mm_unpacklo_epi64(_mm512_castsi512_si128(low), _mm512_castsi512_si128(high));
    }
}

}  // namespace hybrid::HYBRID_TIER

#include "lanes_avx512_floats.h"
#include "lanes_avx512_scales.h"
