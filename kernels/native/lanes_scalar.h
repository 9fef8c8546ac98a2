// Any processor: 64 bytes are an array, floats come four at a time. The meaning of the others.
#pragma once

#include "scalar.h"

namespace hybrid::HYBRID_TIER {

struct Bytes {
    std::uint8_t byte[64];
};

struct Signed {
    std::int8_t number[64];
};

struct Words {
    std::int16_t word[32];
};

struct Sums {
    std::int32_t sum[32];
};

struct Scales {
    std::int16_t scale[16];
};

struct Floats8 {
    float value[8];
};

struct RowSums {
    float value[8];
};

typedef float Lanes __attribute__((vector_size(16)));  // four floats, GCC and Clang

constexpr int kLanes = 4;
constexpr int kWideOffset = 0;

inline Bytes load_bytes(const void* bytes) {
    Bytes out;
    std::memcpy(&out, bytes, 64);
    return out;
}

inline void store_bytes(Bytes bytes, void* out) {
    std::memcpy(out, &bytes, 64);
}

inline Bytes join(const void* first_32, const void* last_32) {
    Bytes out;
    std::memcpy(out.byte, first_32, 32);
    std::memcpy(out.byte + 32, last_32, 32);
    return out;
}

inline std::uint8_t shifted_right(std::uint8_t byte, int count) {
    return static_cast<std::uint8_t>(count < 0 ? byte << -count : byte >> count);
}

// Bits `shift` .. of 32 bytes, then bits `next` .. of the same bytes, each `mask`ed. A negative
// shift goes left.
inline Bytes fields(const void* bytes_32, int shift, int next, int mask) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_32);
    Bytes out;
    for (int i = 0; i < 32; ++i) {
        out.byte[i] = static_cast<std::uint8_t>(shifted_right(bytes[i], shift) & mask);
        out.byte[i + 32] = static_cast<std::uint8_t>(shifted_right(bytes[i], next) & mask);
    }
    return out;
}

// Bits `shift` .. of 64 bytes, masked.
inline Bytes field(const void* bytes_64, int shift, int mask) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_64);
    Bytes out;
    for (int i = 0; i < 64; ++i) out.byte[i] = static_cast<std::uint8_t>(bytes[i] >> shift & mask);
    return out;
}

// The nibbles of 16 bytes, low ones first, then those of 16 others.
inline Bytes nibbles_of_two(const void* first_16, const void* last_16) {
    Bytes out;
    for (int half = 0; half < 2; ++half) {
        const auto* bytes = static_cast<const std::uint8_t*>(half ? last_16 : first_16);
        for (int i = 0; i < 16; ++i) out.byte[32 * half + i] = bytes[i] & 15;
        for (int i = 0; i < 16; ++i) out.byte[32 * half + 16 + i] = bytes[i] >> 4;
    }
    return out;
}

// 32 bytes again and again.
inline Bytes repeated_32(const void* bytes) {
    return join(bytes, bytes);
}

// 32 bytes, then 16 others twice.
inline Bytes join_48(const void* bytes_48) {
    Bytes out;
    std::memcpy(out.byte, bytes_48, 48);
    std::memcpy(out.byte + 48, out.byte + 32, 16);
    return out;
}

// 16 bytes three times, then four others four times.
inline Bytes join_16_4(const void* bytes_16, const void* bytes_4) {
    Bytes out;
    for (int i = 0; i < 3; ++i) std::memcpy(out.byte + 16 * i, bytes_16, 16);
    for (int i = 0; i < 4; ++i) std::memcpy(out.byte + 48 + 4 * i, bytes_4, 4);
    return out;
}

// 3 x in the lanes whose bit is set, else x; modulo 256.
inline Bytes times_three(Bytes x, std::uint64_t lanes) {
    for (int i = 0; i < 64; ++i) {
        x.byte[i] = static_cast<std::uint8_t>(x.byte[i] * (lanes >> i & 1 ? 3 : 1));
    }
    return x;
}

// 3 x / 256, rounded down.
inline Bytes thirds(Bytes x) {
    for (int i = 0; i < 64; ++i) x.byte[i] = static_cast<std::uint8_t>(x.byte[i] * 3 >> 8);
    return x;
}

// `value` in the lanes whose bit is set, else 0.
inline Bytes where_set(std::uint64_t bits, int value) {
    Bytes out;
    for (int i = 0; i < 64; ++i) out.byte[i] = static_cast<std::uint8_t>(bits >> i & 1 ? value : 0);
    return out;
}

inline Bytes bit_or(Bytes a, Bytes b) {
    for (int i = 0; i < 64; ++i) a.byte[i] |= b.byte[i];
    return a;
}

inline Bytes plus(Bytes a, Bytes b) {
    for (int i = 0; i < 64; ++i) a.byte[i] = static_cast<std::uint8_t>(a.byte[i] + b.byte[i]);
    return a;
}

inline Bytes lookup(const std::int8_t* table_16, Bytes nibbles) {
    for (int i = 0; i < 64; ++i)
        nibbles.byte[i] = static_cast<std::uint8_t>(table_16[nibbles.byte[i]]);
    return nibbles;
}

inline Signed wide(Bytes numbers) {
    Signed out;
    std::memcpy(&out, &numbers, 64);
    return out;
}

// Numbers of a table of 16 that needs all of int8, by nibbles.
inline Signed wide_lookup(const std::int8_t* table_16, Bytes nibbles) {
    return wide(lookup(table_16, nibbles));
}

// Of a table whose first eight numbers are the negative ones.
inline Signed signed_lookup(const std::int8_t* table_16, Bytes nibbles) {
    return wide(lookup(table_16, nibbles));
}

// Eight entries of eight bytes.
inline Bytes entries(const std::int8_t (*book)[8], const std::uint32_t (&index)[8]) {
    Bytes out;
    for (int i = 0; i < 8; ++i) std::memcpy(out.byte + 8 * i, book[index[i]], 8);
    return out;
}

// Sixteen entries of four bytes.
inline Bytes entries(const std::int8_t (*book)[4], const std::uint32_t (&index)[16]) {
    Bytes out;
    for (int i = 0; i < 16; ++i) std::memcpy(out.byte + 4 * i, book[index[i]], 4);
    return out;
}

// Magnitudes and one sign bit for each.
inline Signed with_signs(Bytes magnitude, std::uint64_t negative) {
    Signed out;
    for (int i = 0; i < 64; ++i) {
        const int number = magnitude.byte[i];
        out.number[i] = static_cast<std::int8_t>(negative >> i & 1 ? -number : number);
    }
    return out;
}

inline Words products(const Bytes& numbers, const Bytes& x) {
    Words out;
    for (int i = 0; i < 32; ++i) {
        const int first = numbers.byte[2 * i] * static_cast<std::int8_t>(x.byte[2 * i]);
        const int last = numbers.byte[2 * i + 1] * static_cast<std::int8_t>(x.byte[2 * i + 1]);
        out.word[i] = static_cast<std::int16_t>(first + last);
    }
    return out;
}

inline Words products(const Signed& numbers, const Bytes& x) {
    Words out;
    for (int i = 0; i < 32; ++i) {
        const int first = numbers.number[2 * i] * static_cast<std::int8_t>(x.byte[2 * i]);
        const int last = numbers.number[2 * i + 1] * static_cast<std::int8_t>(x.byte[2 * i + 1]);
        out.word[i] = static_cast<std::int16_t>(first + last);
    }
    return out;
}

template <class Numbers>
inline Words block_products(const Numbers& numbers, const Bytes& x) {
    return products(numbers, x);
}

// One scale for each lane of the products of quarter 0 .. 3.
inline Words scale_words(const Scales& scales, int quarter) {
    Words out;
    for (int i = 0; i < 32; ++i) out.word[i] = scales.scale[4 * quarter + i / 8];
    return out;
}

inline Sums no_sums() {
    return {};
}

inline Sums add_scaled(Sums sums, const Words& products, const Words& scales) {
    for (int i = 0; i < 32; ++i) sums.sum[i] += products.word[i] * scales.word[i];
    return sums;
}

}  // namespace hybrid::HYBRID_TIER

#include "lanes_scalar_floats.h"
#include "lanes_scalar_scales.h"
