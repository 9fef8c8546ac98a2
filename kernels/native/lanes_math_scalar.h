// `lanes_math.h` for the scalar tiers.
#pragma once

#include "scalar.h"

namespace hybrid::HYBRID_TIER {

inline Lanes subtract(Lanes a, Lanes b) {
    return a - b;
}

inline Lanes divide(Lanes a, Lanes b) {
    return a / b;
}

// `b` where either is NaN, as `larger`.
inline Lanes smaller(Lanes a, Lanes b) {
    for (int i = 0; i < kLanes; ++i) a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}

// `count` <= kLanes floats, then zeros; no memory beyond is touched.
inline Lanes load_first(const float* values, std::size_t count) {
    Lanes lanes{};
    std::memcpy(&lanes, values, count * sizeof(float));
    return lanes;
}

inline void store_first(Lanes lanes, float* out, std::size_t count) {
    std::memcpy(out, &lanes, count * sizeof(float));
}

// p · 2^n for whole n that leave it a normal number.
inline Lanes times_power_of_two(Lanes p, Lanes n) {
    for (int i = 0; i < kLanes; ++i) {
        // A NaN has no whole n.
        const auto power = n[i] == n[i] ? static_cast<std::int32_t>(n[i]) : 0;
        p[i] = float_of_bits(bits_of_float(p[i]) + (static_cast<std::uint32_t>(power) << 23));
    }
    return p;
}

// The nearest half, ties to even; a NaN becomes the quiet one of its sign.
inline std::uint16_t half_of_float(float value) {
    const std::uint32_t bits = bits_of_float(value);
    const std::uint32_t sign = bits >> 16 & 0x8000u, size = bits & 0x7FFFFFFFu;
    std::uint32_t half;
    if (size > 0x7F800000u) {
        half = 0x7E00u | (size >> 13 & 0x3FFu);
    } else if (size >= 0x477FF000u) {  // rounds beyond 65504
        half = 0x7C00u;
    } else if (size < 0x38800000u) {  // below 2^-14: the addition rounds to multiples of 2^-24
        half = bits_of_float(float_of_bits(size) + 0.5f) - 0x3F000000u;
    } else {
        half = (size - 0x38000000u + 0xFFFu + (size >> 13 & 1u)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

inline Lanes load_f16(const void* halves) {
    const auto* half = static_cast<const Half*>(halves);
    return Lanes{half[0].number(), half[1].number(), half[2].number(), half[3].number()};
}

inline void store_f16(Lanes lanes, void* out) {
    std::uint16_t halves[kLanes];
    for (int i = 0; i < kLanes; ++i) halves[i] = half_of_float(lanes[i]);
    std::memcpy(out, halves, sizeof halves);
}

inline Lanes load_bf16(const void* words) {
    const auto* word = static_cast<const Word16*>(words);
    Lanes lanes{};
    for (int i = 0; i < kLanes; ++i) lanes[i] = float_of_bits(word[i].value() << 16);
    return lanes;
}

inline Lanes load_int8(const void* bytes) {
    const auto* number = static_cast<const std::int8_t*>(bytes);
    Lanes lanes{};
    for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(number[i]);
    return lanes;
}

// Values 0 .. kLanes / 2 - 1, each twice.
inline Lanes load_twice(const float* values) {
    return Lanes{values[0], values[0], values[1], values[1]};
}

// a · b - c in even lanes, a · b + c in odd ones.
inline Lanes fma_in_turn(Lanes a, Lanes b, Lanes c) {
    return a * b + c * Lanes{-1, 1, -1, 1};
}

// Each lane's neighbour in its pair.
inline Lanes swap_pairs(Lanes a) {
    return Lanes{a[1], a[0], a[3], a[2]};
}

// Lane i: the total of register i.
inline Lanes totals(const Lanes (&all)[kLanes]) {
    return Lanes{total(all[0]), total(all[1]), total(all[2]), total(all[3])};
}

// all[i][j] becomes all[j][i].
inline void transpose(Lanes (&all)[kLanes]) {
    Lanes out[kLanes];
    for (int i = 0; i < kLanes; ++i) out[i] = Lanes{all[0][i], all[1][i], all[2][i], all[3][i]};
    for (int i = 0; i < kLanes; ++i) all[i] = out[i];
}

}  // namespace hybrid::HYBRID_TIER
