// Lanes beyond sums and products: rests of rows, exp, cache formats, sums across registers.
#pragma once

#include "lanes.h"

#if defined(__AVX512VNNI__)
#include "lanes_math_avx512.h"
#elif defined(__AVX2__)
#include "lanes_math_avx2.h"
#else
#include "lanes_math_scalar.h"
#endif

namespace hybrid::HYBRID_TIER {

constexpr float kLowest = -3.402823466e38f;

// exp of each lane, relative error 1e-7 from -87.3 to 88.3; beyond, the value at the end. A NaN
// stays one.
inline Lanes exp(Lanes x) {
    // ln 2 in two parts, the first with few enough bits that its multiples are exact.
    constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: the sum's last bit is worth 1
    x = smaller(all_lanes(88.3f), larger(all_lanes(-87.3f), x));
    const Lanes n = subtract(fma(x, all_lanes(kLog2E), all_lanes(kRound)), all_lanes(kRound));
    const Lanes r = fma(n, all_lanes(-kLn2Low), fma(n, all_lanes(-kLn2High), x));
    // (exp(r) - 1 - r) / r², fitted over |r| <= ln 2 / 2 for the least relative error of exp(r)
    Lanes p = all_lanes(0x1.6a2424p-10f);
    p = fma(p, r, all_lanes(0x1.1239e2p-7f));
    p = fma(p, r, all_lanes(0x1.5558f2p-5f));
    p = fma(p, r, all_lanes(0x1.555492p-3f));
    p = fma(p, r, all_lanes(0x1.fffffcp-2f));
    p = fma(multiply(p, r), r, add(r, all_lanes(1.0f)));
    return times_power_of_two(p, n);
}

inline float exp(float x) {
    float lanes[kLanes];
    store(exp(all_lanes(x)), lanes);
    return lanes[0];
}

}  // namespace hybrid::HYBRID_TIER
