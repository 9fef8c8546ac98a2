// Scalar tier: scales of a block's parts.
#pragma once

#include <cstddef>

namespace hybrid::HYBRID_TIER {

inline float half_number(const Half& half) {
    return half.number();
}

// Two halves that follow one another.
inline FactorPair half_pair(const Half* two) {
    return {half_number(two[0]), half_number(two[1])};
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

}  // namespace hybrid::HYBRID_TIER
