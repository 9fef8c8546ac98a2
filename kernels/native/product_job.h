// Memory of a job of one product: what workers share, then a piece for each of them.
#pragma once

#include "pool.h"
#include "pool_border.h"
#include "product.h"

namespace hybrid {

inline Arithmetic arithmetic_of(int tier, int precision) {
    return {*functions_of(tier), static_cast<Precision>(precision)};
}

// What a worker needs beside its activations.
inline std::size_t scratch_bytes(const Arithmetic& arithmetic, const Matrix& matrix) {
    if (!matrix.present()) return 0;
    const TokenProduct& product = product_of(arithmetic.of(matrix), arithmetic.precision);
    return whole_lines(product.scratch_bytes(static_cast<std::size_t>(matrix.columns)));
}

// Bound of the form that `matrix` takes of `tokens` tokens in `lists` lists.
inline std::size_t inputs_bytes(const Arithmetic& arithmetic, const Matrix& matrix, int tokens,
                                int lists) {
    if (!matrix.present()) return 0;
    const FormatFunctions& format = arithmetic.of(matrix);
    const auto columns = static_cast<std::size_t>(matrix.columns);
    const int padded = tokens + lists * (kTokenTile - 1);  // each list ends in a tile of its own
    const std::size_t packed =
        product_of(format, arithmetic.precision).packed_bytes(columns, padded);
    const std::size_t rows = (runs_of(columns) * sizeof(RunOf32s) + columns * sizeof(float)) *
                             static_cast<std::size_t>(tokens);
    return (packed > rows ? packed : rows) + 64 * static_cast<std::size_t>(lists);
}

class JobMemory {
  public:
    JobMemory(void* first, std::int64_t bytes, std::size_t own_bytes)
        : first_(static_cast<std::byte*>(first)),
          bytes_(static_cast<std::size_t>(bytes)),
          own_bytes_(whole_lines(own_bytes)) {}

    // Of a workspace for `threads` workers, 0: as many as the pool may have.
    static std::int64_t bytes(std::size_t shared, std::size_t own, int threads) {
        const auto workers =
            static_cast<std::size_t>(threads > 0 ? threads : hybrid_pool_workers());
        return static_cast<std::int64_t>(whole_lines(shared) + workers * whole_lines(own));
    }

    Memory own(const Worker& worker) const {
        const std::size_t begin = static_cast<std::size_t>(worker.index) * own_bytes_;
        return {first_ + begin, begin + own_bytes_ <= bytes_ ? own_bytes_ : 0};
    }
    Memory shared(const Worker& worker) const {
        const std::size_t before = static_cast<std::size_t>(worker.count) * own_bytes_;
        return {first_ + before, before < bytes_ ? bytes_ - before : 0};
    }

  private:
    std::byte* first_;
    std::size_t bytes_, own_bytes_;
};

}  // namespace hybrid
