// A weight matrix times activations, as ops compose it: which kernel of the tier, which form of the
// activations. Nothing here allocates; callers hand in the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tier.h"

namespace hybrid {

// Rows of blocks at the C border; library.py has the same record.
struct Matrix {
    const void* blocks;  // of row 0
    std::int64_t row_bytes;  // from one row to the next
    std::int32_t format;  // ggml id
    std::int32_t rows, columns;
    std::int32_t unused;

    bool present() const { return blocks != nullptr; }
};

static_assert(sizeof(Matrix) == 32, "library.py has the same record");

inline Rows rows_of(const Matrix& matrix) {
    return {static_cast<const std::uint8_t*>(matrix.blocks),
            static_cast<std::size_t>(matrix.row_bytes), static_cast<std::size_t>(matrix.columns)};
}

// Which forms of its activations a set of matrices takes.
struct Forms {
    bool plain = false, of_32 = false, of_256 = false;

    void add(const Functions& tier, const Matrix& matrix) {
        if (!matrix.present()) return;
        const Rounding rounding = format_of(tier, matrix.format)->rounding;
        plain |= rounding == Rounding::none;
        of_32 |= rounding == Rounding::of_32;
        of_256 |= rounding == Rounding::of_256;
    }
};

// Takes pieces of one stretch of memory, cache-line aligned; without memory it only counts.
class Memory {
public:
    Memory(void* first, std::size_t bytes) : first_(static_cast<std::byte*>(first)), end_(bytes) {}

    template <class T>
    T* take(std::size_t count) {
        const std::size_t begin = used_;
        used_ += (count * sizeof(T) + 63) / 64 * 64;
        if (!first_ || used_ > end_) return nullptr;
        return reinterpret_cast<T*>(first_ + begin);
    }

    std::size_t used() const { return used_; }
    bool fits() const { return used_ <= end_; }

private:
    std::byte* first_;
    std::size_t end_;
    std::size_t used_ = 0;
};

// The activations of some tokens and the forms made of them.
struct Inputs {
    const float* x = nullptr;  // [tokens or more][columns]
    std::size_t x_stride = 0;
    const int* token = nullptr;  // [tokens] rows of x; null: all of them in order
    std::size_t columns = 0;
    int tokens = 0;
    RunOf32s* of_32 = nullptr;  // [tokens][runs], null where no matrix takes it
    RunOf256* of_256 = nullptr;
    float* gathered = nullptr;  // [tokens][columns], where floats are taken and `token` is not null

    // Reserves the forms in `memory`; they are empty until fill() has been called for each token.
    void reserve(Memory& memory, const Forms& forms) {
        const std::size_t runs = runs_of(columns) * static_cast<std::size_t>(tokens);
        if (forms.of_32) of_32 = memory.take<RunOf32s>(runs);
        if (forms.of_256) of_256 = memory.take<RunOf256>(runs);
        if (forms.plain && token) {
            gathered = memory.take<float>(columns * static_cast<std::size_t>(tokens));
        }
    }

    const float* row(int t) const {
        return x + static_cast<std::size_t>(token ? token[t] : t) * x_stride;
    }

    // Makes the forms of tokens begin .. end - 1.
    void fill(const Functions& tier, int begin, int end) const {
        const std::size_t runs = runs_of(columns);
        for (int t = begin; t < end; ++t) {
            const auto at = static_cast<std::size_t>(t);
            if (of_32) tier.round_32(row(t), columns, of_32 + at * runs);
            if (of_256) tier.round_256(row(t), columns, of_256 + at * runs);
            if (gathered) std::memcpy(gathered + at * columns, row(t), columns * sizeof(float));
        }
    }
};

// y[t][r] for rows begin .. end - 1 and all tokens of `inputs`.
inline void multiply(const Functions& tier, const Matrix& matrix, int begin, int end,
                     const Inputs& inputs, const Outputs& y) {
    const FormatFunctions& format = *format_of(tier, matrix.format);
    const Rows rows = rows_of(matrix);
    const auto first = static_cast<std::size_t>(begin), last = static_cast<std::size_t>(end);
    if (format.rounding == Rounding::none) {
        const float* x = inputs.gathered ? inputs.gathered : inputs.x;
        const std::size_t stride = inputs.gathered ? inputs.columns : inputs.x_stride;
        format.dot_exact(rows, first, last, x, stride, inputs.tokens, y);
        return;
    }
    const bool of_32 = format.rounding == Rounding::of_32;
    const void* runs = of_32 ? static_cast<const void*>(inputs.of_32) : inputs.of_256;
    format.dot_rounded(rows, first, last, runs, inputs.tokens, y);
}

}  // namespace hybrid
