// Activations rounded to eight bits, as ggml does for its own dot products: 256 neighbours a run.
//
// Formats of 32 weights take one scale for 32 activations, those of 256 one scale for 256. A row is
// padded with zeros to whole runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hybrid {

constexpr int kRun = 256;  // activations of a run

// x = scale[i / 32] * number[i]
struct alignas(64) RunOf32s {
    std::int8_t number[kRun];
    float scale[8];
    float sum[8];  // scale * sum of the numbers, of each 32
};

// x = scale * number[i]
struct alignas(64) RunOf256 {
    std::int8_t number[kRun];
    std::int16_t sum[16];  // of the numbers, of each 16
    float scale;
};

static_assert(sizeof(RunOf32s) == 320 && sizeof(RunOf256) == 320, "five cache lines a run");

inline std::size_t runs_of(std::size_t columns) {
    return (columns + kRun - 1) / kRun;
}

// What a format's fast dot product takes its activations as.
enum class Rounding : std::int32_t { none = 0, of_32 = 1, of_256 = 2 };

}  // namespace hybrid
