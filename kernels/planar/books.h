// Codebooks in shared memory, for products of one token, and the words that formats with a codebook
// are decoded by.
//
// A word's entries are places among the few numbers of the book, so that one byte permutation makes
// four weights. In shared memory a place has four bits, as the permutation takes it, and signs are
// words of the same kind. The lanes of a warp ask for 32 entries at once; each book stands there
// several times, entry beside entry, so that fewer of them meet in a bank.
#pragma once

#include "planar/rounded.h"

namespace hybrid {

template <int kEntries, int kCopies>
struct SharedWords {
    static constexpr int kBytes = 4 * kEntries * kCopies;
    const uint8_t* begin;
    int lane;  // bytes to this lane's copy

    DEVICE SharedWords of(const uint8_t* from) {
        return {from, unfolded(lane_index() % kCopies * 4)};
    }
    __device__ __forceinline__ uint32_t operator[](uint32_t entry) const {
        const uint32_t at = entry * (4 * kCopies) + static_cast<uint32_t>(lane);
        return *reinterpret_cast<const uint32_t*>(begin + at);
    }
    // The entry that stands so many bytes behind the first.
    __device__ __forceinline__ uint32_t at(uint32_t entry_bytes) const {
        return *reinterpret_cast<const uint32_t*>(begin + (entry_bytes | lane));
    }
    // Threads write the copies of an entry in turns of their own, so that they meet in few banks.
    template <class Word>
    DEVICE void fill(uint8_t* to, const Word& word) {
        constexpr int kTogether = kCopies < 4 ? 1 : 4, kPieces = kCopies / kTogether;
        for (int entry = threadIdx.x; entry < kEntries; entry += blockDim.x) {
            const uint32_t one = word(entry);
#pragma unroll
            for (int piece = 0; piece < kPieces; ++piece) {
                const int at = entry * kPieces + (piece + lane_index()) % kPieces;
                if constexpr (kTogether == 4) {
                    reinterpret_cast<uint4*>(to)[at] = make_uint4(one, one, one, one);
                } else {
                    reinterpret_cast<uint32_t*>(to)[at] = one;
                }
            }
        }
    }
};

// A book and the words of signs behind it.
template <int kEntries, int kCopies, int kSigns, int kSignCopies>
struct SignedBook {
    using Entries = SharedWords<kEntries, kCopies>;
    using Signs = SharedWords<kSigns, kSignCopies>;
    static constexpr int kBytes = Entries::kBytes + Signs::kBytes;
    Entries entries;
    Signs signs;

    DEVICE SignedBook of(const uint8_t* from) {
        return {Entries::of(from), Signs::of(from + Entries::kBytes)};
    }
};

// Eight fields of two bits, each in four.
DEVICE uint32_t spread_pairs(uint32_t fields) {
    uint32_t spread = (fields | fields << 8) & 0x00ff00ffu;
    spread = (spread | spread << 4) & 0x0f0f0f0fu;
    return (spread | spread << 2) & 0x33333333u;
}

// Eight bits, each in four: 4 where it is set, which chooses the upper word of a permutation.
DEVICE uint32_t spread_signs(uint32_t bits) {
    uint32_t spread = (bits | bits << 12) & 0x000f000fu;
    spread = (spread | spread << 6) & 0x03030303u;
    return ((spread | spread << 3) & 0x11111111u) << 2;
}

// Four times seven signs from the lowest 28 bits, each with an eighth that makes their number even.
DEVICE uint32_t even_signs(uint32_t sevens) {
    const uint32_t signs = (sevens & 0x7fu) | (sevens << 1 & 0x7f00u) | (sevens << 2 & 0x7f0000u) |
                           (sevens << 3 & 0x7f000000u);
    uint32_t odd = signs ^ signs >> 4;  // into bit 0 of each byte fall only its own bits
    odd ^= odd >> 2;
    odd ^= odd >> 1;
    return signs | (odd & kOnes) << 7;
}

// Eight bytes of (high:low), chosen by eight places.
DEVICE void choose_eight(uint32_t places, uint32_t low, uint32_t high, int* q) {
    q[0] = static_cast<int>(byte_permute(low, high, places));
    q[1] = static_cast<int>(byte_permute(low, high, places >> 16));
}

// The four bytes of q become negative where the four bits are set; none of them is zero.
DEVICE int negated(int q, uint32_t four_bits) {
    const uint32_t ones = (four_bits & 15) * 0x00204081u & kOnes;
    return static_cast<int>((static_cast<uint32_t>(q) ^ ones * 255) + ones);
}

DEVICE void negate_all(int (&q)[8], uint32_t bits) {
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] = negated(q[i], bits >> 4 * i);
}

}  // namespace hybrid
