// Every format of kernels/formats.py as a struct of that name: how a thread reads 32 weights.
//
//     Format::Raw raw = Format::load(matrix, row, group);    // words into registers; or
//     Format::Raw raw = Format::read(Format::row(matrix, row), group);
//     Codes codes = Format::decode(raw, group);              // 32 weights; or both at once:
//     Codes codes = Format::load32(matrix, row, group);
//
// row counts from matrix.first_row, group 32 weights from the row's beginning. Plain floats
// (Format::kFloat) have load32(matrix, row, group, float[32]) and units of 16 bytes instead.
#pragma once

#include "planar/formats_float.h"
#include "planar/formats_iq1.h"
#include "planar/formats_iq2.h"
#include "planar/formats_iq3.h"
#include "planar/formats_k.h"
#include "planar/formats_small.h"

namespace hybrid {

// The weights themselves, bit for bit those of kernels.dequantize.
DEVICE void weights_of(const Codes& codes, float (&out)[32]) {
#pragma unroll
    for (int j = 0; j < 32; ++j) {
        const float number = static_cast<float>(static_cast<int8_t>(codes.q[j / 4] >> 8 * (j % 4)));
        out[j] = codes.scale[j / 16] * number - codes.minimum[j / 16];
    }
}

// The same for any format.
template <class Format>
DEVICE void load_weights(const Matrix& matrix, int64_t row, int group, float (&out)[32]) {
    if constexpr (Format::kFloat) {
        Format::load32(matrix, row, group, out);
    } else {
        weights_of(Format::load32(matrix, row, group), out);
    }
}

}  // namespace hybrid
