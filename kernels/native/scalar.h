// Little-endian scalars inside blocks. Bytes, so that a block has alignment 1 and may stand at any
// address.
#pragma once

#include <cstdint>
#include <cstring>

namespace hybrid::HYBRID_TIER {

using std::int32_t;
using std::int8_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

struct Word16 {
    uint8_t bytes[2];

    uint32_t value() const { return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8; }
};

struct Word32 {
    uint8_t bytes[4];

    uint32_t value() const {
        return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 |
               static_cast<uint32_t>(bytes[2]) << 16 | static_cast<uint32_t>(bytes[3]) << 24;
    }
};

// IEEE half to float, exact for every pattern. Subnormal halves go through an integer, never
// through a subnormal float, which a caller may have told the CPU to flush to zero. Masks, for
// branches do not vectorise.
inline float float_of_half(uint32_t half) {
    const uint32_t magnitude = half & 0x7FFF;
    const uint32_t is_subnormal = 0u - (magnitude < 0x0400);
    const uint32_t is_special = 0u - (magnitude > 0x7BFF);
    const float scaled = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
    const uint32_t normal = (magnitude << 13) + (112u << 23) + (is_special & 112u << 23);
    return float_of_bits((is_subnormal & bits_of_float(scaled)) | (~is_subnormal & normal) |
                         (half & 0x8000) << 16);
}

struct Half : Word16 {
    float number() const { return float_of_half(value()); }
};

// Of a block of 256 weights: what its scales and its minima are times.
struct FactorPair {
    float factor, minimum;
};

// bit[b][j] is bit j of byte b: eight bits become eight lanes by one load, where SSE has no
// per-lane shift.
struct BitTable {
    uint8_t bit[256][8] = {};
    int8_t sign[256][8] = {};  // -1 where the bit is set, else 1

    constexpr BitTable() {
        for (int byte = 0; byte < 256; ++byte) {
            for (int j = 0; j < 8; ++j) {
                bit[byte][j] = static_cast<uint8_t>(byte >> j & 1);
                sign[byte][j] = static_cast<int8_t>(byte >> j & 1 ? -1 : 1);
            }
        }
    }
};

inline constexpr BitTable kBits;

}  // namespace hybrid::HYBRID_TIER
