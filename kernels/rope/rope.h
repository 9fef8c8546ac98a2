// Cosines and sines of the angles by which positions rotate.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hybrid {

// cos[t][i] = amplitude · cos(positions[t] · frequency[i]), sin alike, formed in double precision:
// at position 10^6 a float angle would be wrong by 0.06 radians.
//   frequency  [pairs]
//   cos, sin   [tokens][pairs]
void rope_table(const double* frequency, std::size_t pairs, const std::int64_t* positions,
                std::size_t tokens, double amplitude, float* cos, float* sin);

}  // namespace hybrid
