// Some weights of a row times the activations beside them, whatever the weights' format.
#pragma once

#include "planar/activations.h"
#include "planar/formats.h"

namespace hybrid {

// Loads of a row.
template <class F>
DEVICE int loads_of(int columns) {
    return (columns + F::kUnit - 1) / F::kUnit;
}

// A row of activations as F multiplies them: `Rounded`, or float32 for plain floats.
template <class F>
struct Activations {
    const void* row;
    int columns;
};

template <class F>
DEVICE float dot(const typename F::Raw& raw, const Activations<F>& x, int load) {
    if constexpr (F::kFloat) {
        float w[F::kUnit], sum = 0;
        F::decode(raw, w);
        const float* values = static_cast<const float*>(x.row);
        const int first = F::kUnit * load;
#pragma unroll
        for (int i = 0; i < F::kUnit; ++i) {
            if (first + i < x.columns) sum += w[i] * values[first + i];
        }
        return sum;
    } else {
        const Rounded rounded(const_cast<void*>(x.row), x.columns, 0);
        return dot_loaded<F>(raw, load, rounded.group(load));
    }
}

}  // namespace hybrid
