// 32 neighbours of x as products take them: signed bytes times one scale, and what they sum up to.
#pragma once

#include "planar/matrix.h"

namespace hybrid {

struct RoundedGroup {
    uint4 first, last;  // numbers 0-15, 16-31
    float scale;        // d
    uint32_t sums;      // of the numbers 0-15 and 16-31, signed, 16 bits each

    __device__ __forceinline__ int sum_first() const { return static_cast<int16_t>(sums); }
    __device__ __forceinline__ int sum_last() const { return static_cast<int>(sums) >> 16; }
    __device__ __forceinline__ float sum() const {
        return scale * static_cast<float>(sum_first() + sum_last());
    }
};

// Of 32 products the sum of the first 16 and that of the others.
struct Halves32 {
    int first, last;
};

DEVICE Halves32 dot_halves(const int (&q)[8], const RoundedGroup& x) {
    Halves32 sums = {0, 0};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        sums.first = dp4a(q[i], static_cast<int>(word_of(x.first, i)), sums.first);
        sums.last = dp4a(q[i + 4], static_cast<int>(word_of(x.last, i)), sums.last);
    }
    return sums;
}

// The same of numbers of two bits, as the plane n2 has them, times four: at the bits 2 and 6 of a
// byte they stand so, and the sum of the others is shifted. Four times `more` is added.
DEVICE Halves32 dot_two_bits_times_four(const uint2& n2, const RoundedGroup& x,
                                        const Halves32& more = {0, 0}) {
    int sums[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const uint32_t low = half == 0 ? n2.x : n2.y, high = low >> 4;
        const uint4& of_x = half == 0 ? x.first : x.last;
        const int before = half == 0 ? more.first : more.last;
        int sum = dp4a(static_cast<int>(low & 3 * kOnes), static_cast<int>(of_x.x), before);
        sum = dp4a(static_cast<int>(high & 3 * kOnes), static_cast<int>(of_x.z), sum) * 4;
        sum = dp4a(static_cast<int>(low & 12 * kOnes), static_cast<int>(of_x.y), sum);
        sums[half] = dp4a(static_cast<int>(high & 12 * kOnes), static_cast<int>(of_x.w), sum);
    }
    return {sums[0], sums[1]};
}

// The same for numbers that are `offset` less than those of q.
template <int offset>
DEVICE Halves32 dot_halves_less(const int (&q)[8], const RoundedGroup& x) {
    const Halves32 sums = dot_halves(q, x);
    return {sums.first - offset * x.sum_first(), sums.last - offset * x.sum_last()};
}

// 32 numbers of a table in halves, by their nibbles in the plane, times x.
DEVICE int dot_table(const NibbleTable& halves, const uint4& n4, const RoundedGroup& x) {
    int lower = 0, upper = 0, more_lower = 0, more_upper = 0;  // no product waits for another
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint32_t word = word_of(n4, i);
        dot_nibbles(halves, word, static_cast<int>(word_of(x.first, i)), lower, upper);
        dot_nibbles(halves, word >> 16, static_cast<int>(word_of(x.last, i)), more_lower,
                    more_upper);
    }
    return lower + upper + (more_lower + more_upper);
}

}  // namespace hybrid
