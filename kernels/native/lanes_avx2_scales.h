// AVX2 tier: scales that are packed by bits. By integers: vector units have more to do here.
#pragma once

#include "lanes_f16c.h"

namespace hybrid::HYBRID_TIER {

struct TwelveBytes {
    std::uint32_t first, middle, last;
};

inline TwelveBytes twelve_bytes(const void* bytes_12) {
    TwelveBytes twelve;
    std::memcpy(&twelve, bytes_12, 12);
    return twelve;
}

// Eight scales of six bits from the twelve bytes of Q4_K.
inline Scales six_bit_scales(const void* bytes_12) {
    const TwelveBytes t = twelve_bytes(bytes_12);
    const std::uint64_t high = (t.last & 0x0F0F0F0F) | (t.first >> 2 & 0x30303030);
    return scales_of_32s((t.first & 0x3F3F3F3F) | high << 32);
}

// Its eight minima.
inline Scales six_bit_minimums(const void* bytes_12) {
    const TwelveBytes t = twelve_bytes(bytes_12);
    const std::uint64_t high = (t.last >> 4 & 0x0F0F0F0F) | (t.middle >> 2 & 0x30303030);
    return scales_of_32s((t.middle & 0x3F3F3F3F) | high << 32);
}

}  // namespace hybrid::HYBRID_TIER
