// Neighbours of 32 weights in one go, of formats of 256 weights with few bits: their words lie side
// by side in the planes, so that one load fetches them and what the block has is read once.
//
//     typename Pairs<Format>::Words words[kRows];                // each
//     words[r] = Pairs<Format>::read(planes, unit);              // unit: a multiple of kGroups
//     Pairs<Format>::add(words, group, group_of_x, book, sums);  // group_of_x(i) stands beside
//                                                                // group + i
#pragma once

#include "planar/activations.h"
#include "planar/formats_iq1.h"
#include "planar/formats_iq2.h"
#include "planar/formats_iq3.h"
#include "planar/formats_k.h"

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

template <>
struct Pairs<Q2_K> : KnownPairs<Q2_K, 4, 0, 64, 80> {
    struct Words {
        uint4 n2;
        uint32_t dm, scales;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load4(planes.in<2>(unit, 4)),
                load4(planes.each<1>(unit, 2))};
    }
    DEVICE Q2_K::Raw raw_of(const Words& words, int which) {
        return {half(words.n2, which), words.dm, half(words.scales, which)};
    }
};

template <>
struct Pairs<Q3_K> : KnownPairs<Q3_K, 2, 0, 64, 96, 104, 108> {
    struct Words {
        uint4 n2;
        uint2 n1;
        uint16_t low, d;
        uint8_t high;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load8(planes.each<1>(unit, 4)),
                load2(planes.each<2>(unit, 1)), load2(planes.in<4>(unit, 2)),
                load1(planes.each_pair<3>(unit))};
    }
    DEVICE Q3_K::Raw raw_of(const Words& words, int which) {
        return {half(words.n2, which), half(words.n1, which), half(words.low, which), words.high,
                words.d};
    }
};

template <>
struct Pairs<TQ2_0> : KnownPairs<TQ2_0, 4, 0, 64> {
    struct Words {
        uint4 n2;
        uint16_t d;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load2(planes.in<1>(unit, 2))};
    }
    DEVICE TQ2_0::Raw raw_of(const Words& words, int which) {
        return {half(words.n2, which), words.d};
    }
};

template <>
struct Pairs<IQ2_XXS> : KnownPairs<IQ2_XXS, 4, 0, 64> {
    struct Words {
        uint4 qs;
        uint16_t d;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load2(planes.in<1>(unit, 2))};
    }
    DEVICE IQ2_XXS::Raw raw_of(const Words& words, int which) {
        return {half(words.qs, which), words.d};
    }
};

template <>
struct Pairs<IQ2_XS> : KnownPairs<IQ2_XS, 2, 0, 64, 72> {
    struct Words {
        uint4 qs;
        uint16_t d, scales;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load2(planes.in<2>(unit, 2)),
                load2(planes.each<1>(unit, 1))};
    }
    DEVICE IQ2_XS::Raw raw_of(const Words& words, int which) {
        return {half(words.qs, which), words.d, half(words.scales, which)};
    }
};

template <>
struct Pairs<IQ2_S> : KnownPairs<IQ2_S, 2, 0, 32, 64, 72, 80> {
    struct Words {
        uint2 index, signs;
        uint16_t d, high, scales;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load8(planes.each<0>(unit, 4)), load8(planes.each<1>(unit, 4)),
                load2(planes.in<4>(unit, 2)), load2(planes.each<2>(unit, 1)),
                load2(planes.each<3>(unit, 1))};
    }
    DEVICE IQ2_S::Raw raw_of(const Words& words, int which) {
        return {half(words.index, which), half(words.signs, which), words.d,
                half(words.high, which), half(words.scales, which)};
    }
};

template <>
struct Pairs<IQ3_XXS> : KnownPairs<IQ3_XXS, 3, 0, 64, 96> {
    struct Words {
        uint4 index;
        uint2 words;
        uint16_t d;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load8(planes.each<1>(unit, 4)),
                load2(planes.in<2>(unit, 2))};
    }
    DEVICE IQ3_XXS::Raw raw_of(const Words& words, int which) {
        return {half(words.index, which), half(words.words, which), words.d};
    }
};

template <>
struct Pairs<IQ3_S> : KnownPairs<IQ3_S, 2, 0, 64, 96, 104, 108> {
    struct Words {
        uint4 index;
        uint2 signs;
        uint16_t d, high;
        uint8_t scales;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load16(planes.each<0>(unit, 8)), load8(planes.each<1>(unit, 4)),
                load2(planes.in<4>(unit, 2)), load2(planes.each<2>(unit, 1)),
                load1(planes.each_pair<3>(unit))};
    }
    DEVICE IQ3_S::Raw raw_of(const Words& words, int which) {
        return {half(words.index, which), half(words.signs, which), words.d,
                half(words.high, which), words.scales};
    }
};

template <>
struct Pairs<IQ1_S> : KnownPairs<IQ1_S, 4, 0, 32, 48> {
    struct Words {
        uint2 index;
        uint32_t words;
        uint16_t d;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load8(planes.each<0>(unit, 4)), load4(planes.each<1>(unit, 2)),
                load2(planes.in<2>(unit, 2))};
    }
    DEVICE IQ1_S::Raw raw_of(const Words& words, int which) {
        return {half(words.index, which), half(words.words, which), words.d};
    }
};

template <>
struct Pairs<IQ1_M> : KnownPairs<IQ1_M, 2, 0, 32, 48> {
    struct Words {
        uint2 index, scales;
        uint32_t high;
    };
    DEVICE Words read(const Planes& planes, uint32_t unit) {
        return {load8(planes.each<0>(unit, 4)), load8(planes.in<2>(unit, 8)),
                load4(planes.each<1>(unit, 2))};
    }
    DEVICE IQ1_M::Raw raw_of(const Words& words, int which) {
        return {half(words.index, which), words.scales, half(words.high, which)};
    }
};

}  // namespace hybrid
