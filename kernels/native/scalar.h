// Little-endian scalars inside blocks. Bytes, so that a block has alignment 1 and may stand at any
// address.
#pragma once

#include <cstdint>
#include <cstring>

namespace hybrid {

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
// through a subnormal float, which a caller may have told the CPU to flush to zero.
inline float float_of_half(uint32_t half) {
    const uint32_t magnitude = half & 0x7FFF;
    const uint32_t subnormal =
        bits_of_float(static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (112u << 23);
    const uint32_t special = (magnitude << 13) | 0x7F800000u;
    const uint32_t finite = magnitude < 0x0400 ? subnormal : normal;
    return float_of_bits((magnitude < 0x7C00 ? finite : special) | (half & 0x8000) << 16);
}

struct Half : Word16 {
    float number() const { return float_of_half(value()); }
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

}  // namespace hybrid
