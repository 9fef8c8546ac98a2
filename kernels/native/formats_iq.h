// What the formats of 256 weights share whose groups of eight are entries of a codebook
// (codebooks.h).
//
// decode() forms each value by the float operations of ggml in their order, so that results agree
// bit for bit. g = 0..31 counts groups of eight weights.
#pragma once

#include "codebooks.h"
#include "formats_k.h"

namespace hybrid::HYBRID_TIER {

// Seven sign bits; the eighth makes the number of ones even.
inline const int8_t* even_signs(uint32_t seven) {
    const uint32_t bits = seven & 127;
    return kBits.sign[bits | static_cast<uint32_t>(__builtin_parity(bits)) << 7];
}

// A codebook number times its sign is exact, and never zero: one multiplication less than ggml, the
// same bits.
inline void decode_signed(const int8_t* numbers, const int8_t* signs, float scale,
                          float* __restrict out) {
    for (int j = 0; j < 8; ++j) out[j] = scale * static_cast<float>(numbers[j] * signs[j]);
}

inline void decode_signed_fours(const int8_t* first, const int8_t* second, const int8_t* signs,
                                float scale, float* __restrict out) {
    for (int j = 0; j < 4; ++j) out[j] = scale * static_cast<float>(first[j] * signs[j]);
    for (int j = 0; j < 4; ++j) out[j + 4] = scale * static_cast<float>(second[j] * signs[j + 4]);
}

inline void decode_shifted(const int8_t* numbers, float shift, float scale, float* __restrict out) {
    for (int j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>(numbers[j]) + shift);
}

// The nibble of `scales` for groups 2 k and 2 k + 1.
inline uint32_t nibble_of_pair(const uint8_t* scales, int g) {
    return scales[g / 4] >> 4 * (g / 2 % 2) & 15;
}

inline std::uint64_t joined(uint32_t low, uint32_t high) {
    return low | static_cast<std::uint64_t>(high) << 32;
}

// Four times seven bits from each word's lowest 28, each with its eighth: 64 signs.
inline std::uint64_t even_signs_of_8(std::uint64_t first, std::uint64_t last) {
    const std::uint64_t sevens =
        deposit((first & 0xFFFFFFF) | (last & 0xFFFFFFF) << 28, 127 * kEach);
    std::uint64_t odd = sevens ^ sevens >> 4;  // into bit 0 of each byte fall only its own bits
    odd ^= odd >> 2;
    odd ^= odd >> 1;
    return sevens | (odd & kEach) << 7;
}

// Four indices in words: a byte in memory each, and above it `bits` bits of `tops`.
inline std::uint64_t four_words(const uint8_t* low_4, std::uint64_t tops, int bits) {
    uint32_t low;
    std::memcpy(&low, low_4, 4);
    const std::uint64_t places = 0x0100010001000100 * ((1u << bits) - 1);
    return deposit(low, 0x00FF00FF00FF00FF) | deposit(tops, places);
}

// Eight entries of eight bytes, by indices in words.
template <int kEntries>
inline Bytes entries_of_words(const int8_t (&book)[kEntries][8], std::uint64_t first,
                              std::uint64_t last) {
    uint32_t index[8];
    for (int i = 0; i < 4; ++i) index[i] = first >> 16 * i & 0xFFFF;
    for (int i = 0; i < 4; ++i) index[i + 4] = last >> 16 * i & 0xFFFF;
    return entries(book, index);
}

// Nibbles of eight bytes in turn, each n as 2 n + 1.
inline Scales odd_scales(std::uint64_t nibbles) {
    return scales_in_turn((nibbles & 15 * kEach) * 2 + kEach,
                          (nibbles >> 4 & 15 * kEach) * 2 + kEach);
}

}  // namespace hybrid::HYBRID_TIER
