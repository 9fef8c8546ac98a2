// Pairs of the formats with a codebook.
#pragma once

#include "planar/formats_iq1.h"
#include "planar/formats_iq2.h"
#include "planar/formats_iq3.h"
#include "planar/pairs.h"

namespace hybrid {

template <>
struct Pairs<IQ2_XXS> : KnownPairs<IQ2_XXS, 2, 0, 64> {
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
struct Pairs<IQ3_XXS> : KnownPairs<IQ3_XXS, 2, 0, 64, 96> {
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
