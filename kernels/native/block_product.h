// Products of small float matrices in scratch memory, the sums held in registers.
#pragma once

#include "lanes_math.h"

namespace hybrid::HYBRID_TIER {

// c[m][n] = Σ_k a[m][k] · b[k][n]; strides in floats.
struct Product {
    const float* a;
    std::size_t a_stride;
    const float* b;
    std::size_t b_stride;
    float* c;
    std::size_t c_stride;
    std::size_t depth;
    const float* kept;  // [m] where c = kept · c + a · b
};

constexpr int kProductRows = 6;
constexpr int kProductLanes = kLanes == 16 ? 4 : 2;  // of 32 registers, or of 16

// `kRows` rows of c, `kWide` registers of each, from column n on.
template <int kRows, int kWide, bool kKeeps>
inline void product_block(const Product& p, std::size_t n) {
    Lanes sums[kRows][kWide];
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
        for (int w = 0; w < kWide; ++w) {
            const float* c = p.c + m * p.c_stride + n + w * kLanes;
            sums[m][w] = kKeeps ? multiply(load(c), all_lanes(p.kept[m])) : no_lanes();
        }
    }
    const float* b = p.b + n;
    for (std::size_t k = 0; k < p.depth; ++k, b += p.b_stride) {
        Lanes row[kWide];
#pragma GCC unroll 4
        for (int w = 0; w < kWide; ++w) row[w] = load(b + w * kLanes);
#pragma GCC unroll 6
        for (int m = 0; m < kRows; ++m) {
            const Lanes a = all_lanes(p.a[m * p.a_stride + k]);
#pragma GCC unroll 4
            for (int w = 0; w < kWide; ++w) sums[m][w] = fma(a, row[w], sums[m][w]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
        for (int w = 0; w < kWide; ++w) store(sums[m][w], p.c + m * p.c_stride + n + w * kLanes);
    }
}

template <int kRows, bool kKeeps>
[[gnu::noinline]] void product_rows(const Product& p, std::size_t columns) {
    constexpr std::size_t kStep = kProductLanes * kLanes;
    std::size_t n = 0;
    for (; n + kStep <= columns; n += kStep) product_block<kRows, kProductLanes, kKeeps>(p, n);
    for (; n < columns; n += kLanes) product_block<kRows, 1, kKeeps>(p, n);
}

// Rows 1 .. kProductRows of c, `columns` of them rounded up to whole registers: b and c have those.
template <bool kKeeps>
inline void product(const Product& p, std::size_t rows, std::size_t columns) {
    switch (rows) {
        case 1:
            return product_rows<1, kKeeps>(p, columns);
        case 2:
            return product_rows<2, kKeeps>(p, columns);
        case 3:
            return product_rows<3, kKeeps>(p, columns);
        case 4:
            return product_rows<4, kKeeps>(p, columns);
        case 5:
            return product_rows<5, kKeeps>(p, columns);
        default:
            return product_rows<6, kKeeps>(p, columns);
    }
}

// Rows of the next group when `rows` are left: groups of nearly equal size.
inline std::size_t group_of(std::size_t rows) {
    const std::size_t groups = (rows + kProductRows - 1) / kProductRows;
    return (rows + groups - 1) / groups;
}

}  // namespace hybrid::HYBRID_TIER
