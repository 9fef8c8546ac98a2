// Asks for memory before it is read.
#pragma once

#include <cstddef>

namespace hybrid::HYBRID_TIER {

// Lines from `first` on, into the second cache. Any address will do.
inline void prefetch(const void* first, std::size_t bytes) {
    asm volatile("");  // GCC 12 takes a function that only prefetches for one that does nothing
    const auto* byte = static_cast<const char*>(first);
    for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(byte + i, 0, 2);
}

}  // namespace hybrid::HYBRID_TIER
