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

inline float half_number(const Half& half) {
    return half.number();
}

// The halves at the same place in eight blocks, kStride bytes apart.
template <int kStride>
inline Floats8 eight_halves(const void* first) {
    Floats8 out;
    for (int i = 0; i < 8; ++i) {
        Half half;
        std::memcpy(&half, static_cast<const std::uint8_t*>(first) + kStride * i, 2);
        out.value[i] = half.number();
    }
    return out;
}

// 2^(byte - 128); the two smallest are subnormal floats.
inline float power(std::uint32_t byte) {
    return float_of_bits(byte < 2 ? 0x00200000u << byte : (byte - 1u) << 23);
}

template <int kStride>
inline Floats8 eight_powers(const void* first) {
    Floats8 out;
    for (int i = 0; i < 8; ++i) {
        out.value[i] = power(static_cast<const std::uint8_t*>(first)[kStride * i]);
    }
    return out;
}

// Bits of `bits`, lowest first, at the places that are set in `places`.
inline std::uint64_t deposit(std::uint64_t bits, std::uint64_t places) {
    std::uint64_t out = 0;
    for (; places; places &= places - 1, bits >>= 1) out |= bits & 1 ? places & -places : 0;
    return out;
}

// The bits of `bits` at the places that are set in `places`, lowest first.
inline std::uint64_t collect(std::uint64_t bits, std::uint64_t places) {
    std::uint64_t out = 0;
    for (int i = 0; places; places &= places - 1, ++i) {
        out |= static_cast<std::uint64_t>((bits & places & -places) != 0) << i;
    }
    return out;
}

// Sixteen signed bytes in memory, widened.
inline Scales scales_of_bytes(const void* bytes_16) {
    Scales out;
    for (int i = 0; i < 16; ++i) out.scale[i] = static_cast<const std::int8_t*>(bytes_16)[i];
    return out;
}

// Bytes of `first`, then of `last`.
inline Scales scales_of(std::uint64_t first, std::uint64_t last) {
    Scales out;
    for (int i = 0; i < 8; ++i) out.scale[i] = static_cast<std::int8_t>(first >> 8 * i);
    for (int i = 0; i < 8; ++i) out.scale[i + 8] = static_cast<std::int8_t>(last >> 8 * i);
    return out;
}

// Byte 0 of `even`, byte 0 of `odd`, byte 1 of `even` and so on.
inline Scales scales_in_turn(std::uint64_t even, std::uint64_t odd) {
    Scales out;
    for (int i = 0; i < 8; ++i) out.scale[2 * i] = static_cast<std::int8_t>(even >> 8 * i);
    for (int i = 0; i < 8; ++i) out.scale[2 * i + 1] = static_cast<std::int8_t>(odd >> 8 * i);
    return out;
}

// Of each 32 weights one byte of `bytes`.
inline Scales scales_of_32s(std::uint64_t bytes) {
    return scales_in_turn(bytes, bytes);
}

// Of sixteen bytes in memory the low nibbles, or the high ones.
inline Scales scales_of_nibbles(const void* bytes_16, int shift) {
    Scales out = scales_of_bytes(bytes_16);
    for (int i = 0; i < 16; ++i)
        out.scale[i] = static_cast<std::int16_t>(out.scale[i] >> shift & 15);
    return out;
}

// Eight scales of six bits from the twelve bytes of Q4_K.
inline Scales six_bit_scales(const void* bytes_12) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_12);
    Scales out;
    for (int k = 0; k < 8; ++k) {
        const int six = k < 4 ? bytes[k] & 63 : (bytes[k + 4] & 15) | (bytes[k - 4] >> 6) << 4;
        out.scale[2 * k] = out.scale[2 * k + 1] = static_cast<std::int16_t>(six);
    }
    return out;
}

// Its eight minima.
inline Scales six_bit_minimums(const void* bytes_12) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_12);
    Scales out;
    for (int k = 0; k < 8; ++k) {
        const int six = k < 4 ? bytes[k + 4] & 63 : bytes[k + 4] >> 4 | (bytes[k] >> 6) << 4;
        out.scale[2 * k] = out.scale[2 * k + 1] = static_cast<std::int16_t>(six);
    }
    return out;
}

// Sixteen scales of six bits, less 32, from the twelve bytes of Q3_K.
inline Scales sixteen_six_bit_scales(const void* bytes_12) {
    const auto* bytes = static_cast<const std::uint8_t*>(bytes_12);
    Scales out;
    for (int k = 0; k < 16; ++k) {
        const int low = bytes[k % 8] >> 4 * (k / 8) & 15, top = bytes[8 + k % 4] >> 2 * (k / 4) & 3;
        out.scale[k] = static_cast<std::int16_t>((low | top << 4) - 32);
    }
    return out;
}

// The top nibbles of eight 32-bit words, kStride bytes apart; n is the scale 2 n + 1 of 32 weights.
template <int kStride>
inline Scales odd_top_nibbles(const void* first) {
    const auto* bytes = static_cast<const std::uint8_t*>(first);
    std::uint64_t odd = 0;
    for (int k = 0; k < 8; ++k) {
        odd |= static_cast<std::uint64_t>(2 * (bytes[kStride * k + 3] >> 4) + 1) << 8 * k;
    }
    return scales_of_32s(odd);
}

inline Scales scales_of_ones() {
    return scales_of(0x0101010101010101, 0x0101010101010101);
}

inline Scales products_of(Scales a, const Scales& b) {
    for (int i = 0; i < 16; ++i) a.scale[i] = static_cast<std::int16_t>(a.scale[i] * b.scale[i]);
    return a;
}

inline Floats8 load8(const float* values) {
    Floats8 out;
    std::memcpy(&out, values, 32);
    return out;
}

inline Floats8 all8(float value) {
    return {{value, value, value, value, value, value, value, value}};
}

inline Floats8 multiply8(Floats8 a, const Floats8& b) {
    for (int i = 0; i < 8; ++i) a.value[i] *= b.value[i];
    return a;
}

inline Floats8 add8(Floats8 a, const Floats8& b) {
    for (int i = 0; i < 8; ++i) a.value[i] += b.value[i];
    return a;
}

inline Floats8 fma8(const Floats8& a, const Floats8& b, Floats8 c) {
    for (int i = 0; i < 8; ++i) c.value[i] += a.value[i] * b.value[i];
    return c;
}

inline void store8(const Floats8& values, float* out) {
    std::memcpy(out, &values, 32);
}

// Value (i + first) % 8 at place i.
inline Floats8 rotated8(const Floats8& values, int first) {
    Floats8 out;
    for (int i = 0; i < 8; ++i) out.value[i] = values.value[(i + first) % 8];
    return out;
}

inline float total8(const Floats8& values) {
    const float* v = values.value;
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// factor * sum of scale * sum of 16 activations, eight partial sums added to `row`.
inline Floats8 add_scaled_sums(Floats8 row, const Scales& scales, const std::int16_t* sums_16,
                               float factor) {
    for (int i = 0; i < 8; ++i) {
        const int sum =
            scales.scale[2 * i] * sums_16[2 * i] + scales.scale[2 * i + 1] * sums_16[2 * i + 1];
        row.value[i] += factor * static_cast<float>(sum);
    }
    return row;
}

inline RowSums no_row_sums() {
    return {};
}

inline RowSums add_times(RowSums row, const Sums& sums, float factor) {
    for (int i = 0; i < 8; ++i) {
        const int four = sums.sum[i] + sums.sum[i + 8] + sums.sum[i + 16] + sums.sum[i + 24];
        row.value[i] += factor * static_cast<float>(four);
    }
    return row;
}

using Factors = Floats8;

inline Factors factors_of(const Floats8& values) {
    return values;
}

inline RowSums add_rows(RowSums a, const RowSums& b) {
    for (int i = 0; i < 8; ++i) a.value[i] += b.value[i];
    return a;
}

inline RowSums with_floats(RowSums row, const Floats8& values) {
    for (int i = 0; i < 8; ++i) row.value[i] += values.value[i];
    return row;
}

// The products of two blocks, by factors 2 pair and 2 pair + 1.
inline RowSums add_times_pair(RowSums row, const Words& products, const Factors& factors,
                              int pair) {
    for (int half = 0; half < 2; ++half) {
        const float factor = factors.value[2 * pair + half];
        for (int i = 0; i < 8; ++i) {
            const std::int16_t* word = products.word + 16 * half + 2 * i;
            row.value[i] += factor * static_cast<float>(word[0] + word[1]);
        }
    }
    return row;
}

inline float total(const RowSums& row) {
    return total8(load8(row.value));
}

inline Lanes no_lanes() {
    return Lanes{};
}

inline Lanes all_lanes(float value) {
    return Lanes{value, value, value, value};
}

inline Lanes load(const float* values) {
    Lanes lanes;
    std::memcpy(&lanes, values, sizeof lanes);
    return lanes;
}

inline void store(Lanes lanes, float* out) {
    std::memcpy(out, &lanes, sizeof lanes);
}

inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return a * b + c;
}

inline Lanes add(Lanes a, Lanes b) {
    return a + b;
}

inline Lanes multiply(Lanes a, Lanes b) {
    return a * b;
}

inline Lanes larger(Lanes a, Lanes b) {
    for (int i = 0; i < kLanes; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

inline float total(Lanes lanes) {
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

inline float largest(Lanes lanes) {
    float most = lanes[0];
    for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

}  // namespace hybrid::HYBRID_TIER
