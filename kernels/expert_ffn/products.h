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

// The same with the format's book in shared memory.
template <class F>
DEVICE float dot_booked(const typename F::Raw& raw, const Activations<F>& x, int load,
                        const uint8_t* book) {
    if constexpr (F::kBookBytes == 0) {
        return dot<F>(raw, x, load);
    } else {
        const Rounded rounded(const_cast<void*>(x.row), x.columns, 0);
        return dot_booked<F>(raw, load, rounded.group(load), book);
    }
}

// Books of two formats, one after the other; one format has one.
template <class First, class Second>
struct Books {
    static constexpr int kSecond = First::kBookBytes;
    static constexpr int kBytes = kSecond + Second::kBookBytes;

    DEVICE void fill(uint8_t* to) {
        if constexpr (First::kBookBytes > 0) First::fill_book(to);
        if constexpr (Second::kBookBytes > 0) Second::fill_book(to + kSecond);
    }
};

template <class Both>
struct Books<Both, Both> {
    static constexpr int kSecond = 0;
    static constexpr int kBytes = Both::kBookBytes;

    DEVICE void fill(uint8_t* to) {
        if constexpr (kBytes > 0) Both::fill_book(to);
    }
};

}  // namespace hybrid
