// Rotary position embedding of one pair. The angle is formed and brought into an eighth of a turn
// in float64: at position 163 839 a float32 angle would be wrong by 0.01 radians. What remains
// needs float32 only, and short series: no library call with tables in local memory.
#pragma once

#include "cuda/device.h"

namespace hybrid {

// Of x in [-pi/4, pi/4]; the first terms left out are below 2^-28.
DEVICE float2 cosine_and_sine(float x) {
    const float y = x * x;
    const float sine =
        x + x * y * (-1.0f / 6 + y * (1.0f / 120 + y * (-1.0f / 5040 + y * (1.0f / 362880))));
    const float cosine =
        1.0f + y * (-0.5f + y * (1.0f / 24 +
                                 y * (-1.0f / 720 + y * (1.0f / 40320 - y * (1.0f / 3628800)))));
    return make_float2(cosine, sine);
}

struct Angles {
    const int32_t* positions;  // [tokens]
    const double* frequency;   // [rope / 2], radians per position
    float amplitude;
    int32_t rope;

    // (even, odd) turned by positions[token] · frequency[pair], times amplitude.
    __device__ __forceinline__ float2 rotate(float even, float odd, int token, int pair) const {
        constexpr double kQuarter = 1.5707963267948966;  // of a turn
        const double angle = static_cast<double>(positions[token]) * frequency[pair];
        const double quarters = rint(angle * (1 / kQuarter));
        const float2 turn = cosine_and_sine(static_cast<float>(fma(-quarters, kQuarter, angle)));
        const int quadrant = static_cast<int>(static_cast<int64_t>(quarters) & 3);
        float cosine = quadrant & 1 ? turn.y : turn.x, sine = quadrant & 1 ? turn.x : turn.y;
        if (quadrant == 1 || quadrant == 2) cosine = -cosine;
        if (quadrant >= 2) sine = -sine;
        cosine *= amplitude;
        sine *= amplitude;
        return make_float2(even * cosine - odd * sine, even * sine + odd * cosine);
    }
};

}  // namespace hybrid
