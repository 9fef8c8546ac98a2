// Neighbours of 32 weights in one go, of formats of 256 weights with few bits: their words lie side
// by side in the planes, so that one load fetches them and what the block has is read once.
//
//     typename Pairs<Format>::Words words[kRows];                // each
//     words[r] = Pairs<Format>::read(planes, unit);              // unit: a multiple of kGroups
//     Pairs<Format>::add(words, group, group_of_x, book, sums);  // group_of_x(i) stands beside
//                                                                // group + i
#pragma once

#include "planar/activations.h"

namespace hybrid {

// Formats without one are read group by group.
template <class Format>
struct Pairs {
    static constexpr int kGroups = 1, kSteps = Format::kSteps;
};

// Where planes begin that have so many bytes of each block before them.
template <int... kBefore>
struct KnownPlanes {
    struct Planes {
        const uint8_t* begin[sizeof...(kBefore)];

        __device__ __forceinline__ explicit Planes(const Matrix& matrix)
            : begin{matrix.data + matrix.total_rows * (matrix.columns / 256) * kBefore...} {}
        // A plane with so many bytes of each 32 weights, of each 64, of each block.
        template <int kPlane>
        __device__ __forceinline__ const uint8_t* each(uint32_t unit, int width) const {
            return begin[kPlane] + static_cast<uint64_t>(unit) * width;
        }
        template <int kPlane>
        __device__ __forceinline__ const uint8_t* each_pair(uint32_t unit) const {
            return begin[kPlane] + unit / 2;
        }
        template <int kPlane>
        __device__ __forceinline__ const uint8_t* in(uint32_t unit, int width) const {
            return begin[kPlane] + static_cast<uint64_t>(unit / 8) * width;
        }
    };
    DEVICE uint2 half(const uint4& words, int which) {
        return which == 0 ? make_uint2(words.x, words.y) : make_uint2(words.z, words.w);
    }
    DEVICE uint32_t half(const uint2& words, int which) { return which == 0 ? words.x : words.y; }
    DEVICE uint16_t half(uint32_t word, int which) {
        return static_cast<uint16_t>(word >> 16 * which);
    }
    DEVICE uint8_t half(uint16_t word, int which) {
        return static_cast<uint8_t>(word >> 8 * which);
    }
};

// What a format of pairs has that multiplies its groups one by one.
template <class Format, int kStepsAtOnce, int... kBefore>
struct KnownPairs : KnownPlanes<kBefore...> {
    static constexpr int kGroups = 2;
    static constexpr int kSteps = kStepsAtOnce;  // loads of a row that registers hold

    template <class Words, int kRows, class GroupOfX>
    DEVICE void add(const Words (&words)[kRows], int group, const GroupOfX& group_of_x,
                    const uint8_t* book, float (&sums)[kRows]) {
#pragma unroll
        for (int which = 0; which < kGroups; ++which) {
            const RoundedGroup x = group_of_x(which);
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                sums[r] += dot_booked<Format>(Pairs<Format>::raw_of(words[r], which), group + which,
                                              x, book);
        }
    }
};

}  // namespace hybrid
