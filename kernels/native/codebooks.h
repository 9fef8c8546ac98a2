// Codebooks of the IQ formats: groups of eight (IQ3: four) small numbers, handed in by Python at
// load.
#pragma once

#include <cstdint>

namespace hybrid {

// ggml ids of the formats that have one
constexpr int kIq2Xxs = 16, kIq2Xs = 17, kIq3Xxs = 18, kIq1S = 19, kIq3S = 21, kIq2S = 22,
              kIq1M = 29;

extern std::int8_t iq2_xxs_codebook[256][8];
extern std::int8_t iq2_xs_codebook[512][8];
extern std::int8_t iq2_s_codebook[1024][8];
extern std::int8_t iq3_xxs_codebook[256][4];
extern std::int8_t iq3_s_codebook[512][4];
extern std::int8_t iq1_codebook[2048][8];
extern std::int8_t iq1_eighths[2048][8];  // 8 * iq1_codebook + 8

}  // namespace hybrid
