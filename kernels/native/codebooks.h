// Codebooks of the IQ formats: groups of eight (IQ3: four) small numbers, handed in by Python at
// load.
#pragma once

#include <cstdint>

namespace hybrid {

extern std::int8_t iq2_xxs_codebook[256][8];
extern std::int8_t iq2_xs_codebook[512][8];
extern std::int8_t iq2_s_codebook[1024][8];
extern std::int8_t iq3_xxs_codebook[256][4];
extern std::int8_t iq3_s_codebook[512][4];
extern std::int8_t iq1_codebook[2048][8];

}  // namespace hybrid
