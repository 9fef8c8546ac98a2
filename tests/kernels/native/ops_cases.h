// Random weights, buffers and pools for ops_test.cpp. Every buffer is an allocation of just its
// size, so that a sanitizer sees what reads or writes beside it.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "../expert_ffn/feed_forward.h"
#include "check.h"
#include "library.h"
#include "pool_border.h"

namespace ops_test {

constexpr int kF32 = 0, kF16 = 1, kQ8 = 8;  // ggml ids
constexpr int kWorkers = 4;
using Bytes = std::vector<std::uint8_t>;
using Floats = std::vector<float>;

inline std::mt19937 numbers;

inline Floats random_floats(std::size_t count, float middle = 0, float reach = 1) {
    std::uniform_real_distribution<float> any(middle - reach, middle + reach);
    Floats values(count);
    for (float& value : values) value = any(numbers);
    return values;
}

inline Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(numbers());
    return bytes;
}

inline std::size_t row_bytes(int format, int columns) {
    const int weights = hybrid_block_weights(format);
    CHECK(columns % weights == 0);
    return static_cast<std::size_t>(columns / weights * hybrid_block_bytes(format));
}

// Random numbers of a size that keeps activations finite; Q8_0 has scales from 2^-11 to 2^-10.
inline Bytes random_rows(int format, int rows, int columns) {
    const std::size_t bytes = static_cast<std::size_t>(rows) * row_bytes(format, columns);
    if (format == kF32) {
        const Floats values = random_floats(bytes / 4, 0, 0.2f);
        Bytes same(bytes);
        std::memcpy(same.data(), values.data(), bytes);
        return same;
    }
    Bytes blocks = random_bytes(bytes);
    for (std::size_t at = 1; format == kQ8 && at < bytes; at += 34) {
        blocks[at] = static_cast<std::uint8_t>(0x10 | (blocks[at] & 3));
    }
    return blocks;
}

// Keeps the bytes that matrices point to, each in an allocation of its own.
struct Weights {
    std::vector<Bytes> blocks;
    std::vector<Floats> values;

    hybrid::Matrix matrix(int rows, int columns, int format = kQ8, int copies = 1) {
        blocks.push_back(random_rows(format, rows * copies, columns));
        const auto stride = static_cast<std::int64_t>(row_bytes(format, columns));
        return {blocks.back().data(), stride, format, rows, columns, 0};
    }
    const float* norm(int count) {
        values.push_back(random_floats(static_cast<std::size_t>(count), 1, 0.1f));
        return values.back().data();
    }
    hybrid::HeadMatrices heads(int count, int rows, int columns) {
        const hybrid::Matrix first = matrix(rows, columns, kQ8, count);
        return {first, first.row_bytes * rows};
    }
    hybrid::Experts experts(int first, int count, int used, int width, int length, int parts) {
        hybrid::Experts all{parts, first, count, used, {}};
        const int here = length / parts;
        for (int part = 0; part < parts; ++part) {
            const hybrid::Matrix gate = matrix(here, width, kQ8, count);
            const hybrid::Matrix up = matrix(here, width, kQ8, count);
            const hybrid::Matrix down = matrix(width, here, kQ8, count);
            all.part[part] = {
                gate, up, down, gate.row_bytes * here, up.row_bytes * here, down.row_bytes * width};
        }
        return all;
    }
};

// NaN in every float, on a cache line.
struct Workspace {
    explicit Workspace(std::int64_t size)
        : bytes(size), first(::operator new(static_cast<std::size_t>(size), std::align_val_t{64})) {
        std::memset(first, 0xFF, static_cast<std::size_t>(size));
    }
    ~Workspace() { ::operator delete(first, std::align_val_t{64}); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    const std::int64_t bytes;
    void* const first;
};

void test_serve();  // serve_case.cpp

// A pool anew: its scratch is no larger than the next job asks for.
inline void start(int workers) {
    const std::int32_t cpus[kWorkers] = {-1, -1, -1, -1}, nodes[kWorkers] = {0, 1, 0, 1};
    CHECK(hybrid_pool_stop() == kPoolOk);
    CHECK(hybrid_pool_start(cpus, nodes, workers) == kPoolOk);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline void check_finite(const Floats& values) {
    for (float value : values) CHECK(std::isfinite(value));
}

// run(threads) of one worker and of all give the same bits.
template <class Run>
auto by_any_workers(const Run& run) {
    start(1);
    const auto alone = run(1);
    start(kWorkers);
    CHECK(same_bits(run(kWorkers), alone));
    return alone;
}

}  // namespace ops_test
