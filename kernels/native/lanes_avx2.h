// AVX2, FMA, F16C: 64 bytes are two registers.
#pragma once

#include <immintrin.h>

namespace hybrid::HYBRID_TIER {

struct Bytes {
    __m256i first, last;
};

// Sums of neighbouring products and scales beside them.
struct Words {
    __m256i first, last;
};

using Sums = __m256i;
using Lanes = __m256;
using RowSums = __m256;
using Floats8 = __m256;
using Scales = __m256i;

// psignb takes signs from numbers as they stand.
struct Signed {
    Bytes magnitude, sign;
};

constexpr int kLanes = 8;

// Products of wide numbers would overflow 16 bits if they were unsigned: they stay signed.
constexpr int kWideOffset = 0;

inline Bytes load_bytes(const void* bytes) {
    const auto* two = static_cast<const __m256i*>(bytes);
    return {_mm256_loadu_si256(two), _mm256_loadu_si256(two + 1)};
}

inline void store_bytes(Bytes bytes, void* out) {
    auto* two = static_cast<__m256i*>(out);
    _mm256_storeu_si256(two, bytes.first);
    _mm256_storeu_si256(two + 1, bytes.last);
}

inline Bytes join(const void* first_32, const void* last_32) {
    return {_mm256_loadu_si256(static_cast<const __m256i*>(first_32)),
            _mm256_loadu_si256(static_cast<const __m256i*>(last_32))};
}

inline __m256i shifted_right(__m256i words, int count) {
    return count < 0 ? _mm256_slli_epi16(words, -count) : _mm256_srli_epi16(words, count);
}

// Bits `shift` .. of 32 bytes, then bits `next` .. of the same bytes, each `mask`ed. A negative
// shift goes left.
inline Bytes fields(const void* bytes_32, int shift, int next, int mask) {
    const __m256i bytes = _mm256_loadu_si256(static_cast<const __m256i*>(bytes_32));
    const __m256i masks = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(shifted_right(bytes, shift), masks),
            _mm256_and_si256(shifted_right(bytes, next), masks)};
}

// Bits `shift` .. of 64 bytes, masked.
inline Bytes field(const void* bytes_64, int shift, int mask) {
    const Bytes bytes = load_bytes(bytes_64);
    const __m256i masks = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(_mm256_srli_epi16(bytes.first, shift), masks),
            _mm256_and_si256(_mm256_srli_epi16(bytes.last, shift), masks)};
}

inline __m256i nibbles_of(const void* bytes_16) {
    const __m256i twice =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(bytes_16)));
    return _mm256_and_si256(_mm256_srlv_epi64(twice, _mm256_set_epi64x(4, 4, 0, 0)),
                            _mm256_set1_epi8(15));
}

// The nibbles of 16 bytes, low ones first, then those of 16 others.
inline Bytes nibbles_of_two(const void* first_16, const void* last_16) {
    return {nibbles_of(first_16), nibbles_of(last_16)};
}

// 32 bytes again and again.
inline Bytes repeated_32(const void* bytes) {
    const __m256i one = _mm256_loadu_si256(static_cast<const __m256i*>(bytes));
    return {one, one};
}

// 32 bytes, then 16 others twice.
inline Bytes join_48(const void* bytes_48) {
    const auto* bytes = static_cast<const __m128i*>(bytes_48);
    return {_mm256_loadu_si256(static_cast<const __m256i*>(bytes_48)),
            _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes + 2))};
}

// 16 bytes three times, then four others four times.
inline Bytes join_16_4(const void* bytes_16, const void* bytes_4) {
    int four;
    std::memcpy(&four, bytes_4, 4);
    const __m256i twice =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(bytes_16)));
    return {twice, _mm256_inserti128_si256(twice, _mm_set1_epi32(four), 1)};
}

// 0xFF in the lanes whose bit is set.
inline __m256i spread_bits(std::uint32_t bits) {
    const __m256i bytes = _mm256_shuffle_epi8(
        _mm256_set1_epi32(static_cast<int>(bits)),
        _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0));
    const __m256i one_each = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, one_each), one_each);
}

// `value` in the lanes whose bit is set, else 0.
inline Bytes where_set(std::uint64_t bits, int value) {
    const __m256i values = _mm256_set1_epi8(static_cast<char>(value));
    return {_mm256_and_si256(spread_bits(static_cast<std::uint32_t>(bits)), values),
            _mm256_and_si256(spread_bits(static_cast<std::uint32_t>(bits >> 32)), values)};
}

inline Bytes bit_or(Bytes a, Bytes b) {
    return {_mm256_or_si256(a.first, b.first), _mm256_or_si256(a.last, b.last)};
}

inline Bytes plus(Bytes a, Bytes b) {
    return {_mm256_add_epi8(a.first, b.first), _mm256_add_epi8(a.last, b.last)};
}

// 3 x in the lanes whose bit is set, else x; modulo 256.
inline Bytes times_three(Bytes x, std::uint64_t lanes) {
    const __m256i first = spread_bits(static_cast<std::uint32_t>(lanes));
    const __m256i last = spread_bits(static_cast<std::uint32_t>(lanes >> 32));
    return plus(x, {_mm256_and_si256(_mm256_add_epi8(x.first, x.first), first),
                    _mm256_and_si256(_mm256_add_epi8(x.last, x.last), last)});
}

inline __m256i third(__m256i x) {
    const __m256i one =
        _mm256_min_epu8(_mm256_subs_epu8(x, _mm256_set1_epi8(85)), _mm256_set1_epi8(1));
    const __m256i other = _mm256_min_epu8(
        _mm256_subs_epu8(x, _mm256_set1_epi8(static_cast<char>(170))), _mm256_set1_epi8(1));
    return _mm256_add_epi8(one, other);
}

// 3 x / 256, rounded down: 0 below 86, 2 from 171 on.
inline Bytes thirds(Bytes x) {
    return {third(x.first), third(x.last)};
}

inline Bytes lookup(const std::int8_t* table_16, Bytes nibbles) {
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table_16)));
    return {_mm256_shuffle_epi8(table, nibbles.first), _mm256_shuffle_epi8(table, nibbles.last)};
}

inline Signed signed_of(Bytes numbers) {
    return {{_mm256_abs_epi8(numbers.first), _mm256_abs_epi8(numbers.last)}, numbers};
}

inline Signed wide(Bytes numbers) {
    return signed_of(numbers);
}

// Numbers of a table of 16 that needs all of int8, by nibbles.
inline Signed wide_lookup(const std::int8_t* table_16, Bytes nibbles) {
    return signed_of(lookup(table_16, nibbles));
}

// Of a table whose first eight numbers are the negative ones.
inline Signed signed_lookup(const std::int8_t* table_16, Bytes nibbles) {
    return signed_of(lookup(table_16, nibbles));
}

// Eight entries of eight bytes.
inline Bytes entries(const std::int8_t (*book)[8], const std::uint32_t (&index)[8]) {
    long long entry[8];
    for (int i = 0; i < 8; ++i) std::memcpy(entry + i, book[index[i]], 8);
    return {_mm256_set_epi64x(entry[3], entry[2], entry[1], entry[0]),
            _mm256_set_epi64x(entry[7], entry[6], entry[5], entry[4])};
}

// Sixteen entries of four bytes.
inline Bytes entries(const std::int8_t (*book)[4], const std::uint32_t (&index)[16]) {
    int entry[16];
    for (int i = 0; i < 16; ++i) std::memcpy(entry + i, book[index[i]], 4);
    return {_mm256_set_epi32(entry[7], entry[6], entry[5], entry[4], entry[3], entry[2], entry[1],
                             entry[0]),
            _mm256_set_epi32(entry[15], entry[14], entry[13], entry[12], entry[11], entry[10],
                             entry[9], entry[8])};
}

// Magnitudes and one sign bit for each. A set lane is -1; the others must be positive, not zero.
inline Signed with_signs(Bytes magnitude, std::uint64_t negative) {
    const __m256i one = _mm256_set1_epi8(1);
    return {magnitude,
            {_mm256_or_si256(spread_bits(static_cast<std::uint32_t>(negative)), one),
             _mm256_or_si256(spread_bits(static_cast<std::uint32_t>(negative >> 32)), one)}};
}

// Sums of two neighbouring products; numbers up to 128 cannot overflow.
inline Words products(Bytes numbers, Bytes x) {
    return {_mm256_maddubs_epi16(numbers.first, x.first),
            _mm256_maddubs_epi16(numbers.last, x.last)};
}

inline Words products(const Signed& numbers, Bytes x) {
    return {
        _mm256_maddubs_epi16(numbers.magnitude.first,
                             _mm256_sign_epi8(x.first, numbers.sign.first)),
        _mm256_maddubs_epi16(numbers.magnitude.last, _mm256_sign_epi8(x.last, numbers.sign.last))};
}

// One scale for each lane of the products of quarter 0 .. 3.
inline Words scale_words(Scales scales, int quarter) {
    const __m256i half = quarter < 2 ? _mm256_permute2x128_si256(scales, scales, 0x00)
                                     : _mm256_permute2x128_si256(scales, scales, 0x11);
    const __m256i pair = _mm256_set_epi64x(0x0302030203020302, 0x0302030203020302,
                                           0x0100010001000100, 0x0100010001000100);
    const __m256i first =
        _mm256_add_epi8(pair, _mm256_set1_epi8(static_cast<char>(8 * (quarter % 2))));
    const __m256i last = _mm256_add_epi8(first, _mm256_set1_epi8(4));
    return {_mm256_shuffle_epi8(half, first), _mm256_shuffle_epi8(half, last)};
}

inline Sums no_sums() {
    return _mm256_setzero_si256();
}

inline Sums add_scaled(Sums sums, Words products, Words scales) {
    return _mm256_add_epi32(sums, _mm256_add_epi32(_mm256_madd_epi16(products.first, scales.first),
                                                   _mm256_madd_epi16(products.last, scales.last)));
}

// Products whose pairs of blocks are scaled by floats.
inline Words block_products(const Bytes& numbers, Bytes x) {
    return products(numbers, x);
}

inline Words block_products(const Signed& numbers, Bytes x) {
    return products(numbers, x);
}

// The 16-bit words that begin eight blocks, kStride bytes apart. Sixteen bytes are read of each.
template <int kStride>
inline __m128i eight_words(const void* first) {
    const auto* bytes = static_cast<const std::uint8_t*>(first);
    const auto pair = [bytes](int block) {
        const auto* at = bytes + kStride * block;
        return _mm_unpacklo_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)),
                                  _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + kStride)));
    };
    return _mm_unpacklo_epi64(_mm_unpacklo_epi32(pair(0), pair(2)),
                              _mm_unpacklo_epi32(pair(4), pair(6)));
}

}  // namespace hybrid::HYBRID_TIER

#include "lanes_avx2_floats.h"
#include "lanes_avx2_scales.h"
