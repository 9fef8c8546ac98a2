// A weight matrix times activations, as ops compose it: which kernel of the tier, which form of the
// activations. Nothing here allocates; callers hand in the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "tier.h"

namespace hybrid {

// Rows of blocks at the C border; records.py has the same.
struct Matrix {
    const void* blocks;      // of row 0
    std::int64_t row_bytes;  // from one row to the next
    std::int32_t format;     // ggml id
    std::int32_t rows, columns;
    std::int32_t unused;

    bool present() const { return blocks != nullptr; }
};

static_assert(sizeof(Matrix) == 32, "records.py has the same");

inline Rows rows_of(const Matrix& matrix) {
    return {static_cast<const std::uint8_t*>(matrix.blocks),
            static_cast<std::size_t>(matrix.row_bytes), static_cast<std::size_t>(matrix.columns)};
}

inline const std::uint8_t* row_of(const Matrix& matrix, int row) {
    return static_cast<const std::uint8_t*>(matrix.blocks) + row * matrix.row_bytes;
}

inline std::size_t whole_lines(std::size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

// Takes pieces of one stretch of memory, each on a cache line. Copies are cursors of their own.
class Memory {
  public:
    Memory(void* first, std::size_t bytes) : first_(static_cast<std::byte*>(first)), end_(bytes) {}

    template <class T>
    T* take(std::size_t count) {
        const std::size_t begin = used_;
        used_ += whole_lines(count * sizeof(T));
        if (used_ > end_) throw std::length_error("a job's memory is too small");
        return reinterpret_cast<T*>(first_ + begin);
    }

  private:
    std::byte* first_;
    std::size_t end_;
    std::size_t used_ = 0;
};

// How products are computed: activations rounded to eight bits, or float32 throughout.
enum class Precision : std::int32_t { rounded = 0, exact = 1 };

// What a matrix takes its activations as: rows of floats, rounded rows, or packed tiles of tokens.
struct Form {
    Rounding rounding = Rounding::none;
    void (*pack)(const Tokens&, int, int, void*) = nullptr;  // null: rows
    std::size_t bytes = 0;

    bool operator==(const Form& other) const {
        return rounding == other.rounding && pack == other.pack;
    }
};

inline const TokenProduct& product_of(const FormatFunctions& format, Precision precision) {
    return precision == Precision::exact ? format.product_exact : format.product_rounded;
}

inline Form form_of(const FormatFunctions& format, Precision precision, std::size_t columns,
                    int tokens) {
    const TokenProduct& product = product_of(format, precision);
    if (tokens >= product.from_tokens) {
        return {Rounding::none, product.pack, product.packed_bytes(columns, tokens)};
    }
    const Rounding rounding = precision == Precision::exact ? Rounding::none : format.rounding;
    const std::size_t runs = runs_of(columns) * static_cast<std::size_t>(tokens);
    if (rounding == Rounding::of_32) return {rounding, nullptr, runs * sizeof(RunOf32s)};
    if (rounding == Rounding::of_256) return {rounding, nullptr, runs * sizeof(RunOf256)};
    return {rounding, nullptr, columns * static_cast<std::size_t>(tokens) * sizeof(float)};
}

// The rows of a matrix as workers share them out.
//
// A unit is what one worker takes from another: small where few tokens read the RAM, so that
// workers end a phase together, a slab where many compute. A stretch is what a worker computes at
// once of units that follow one another: long where the RAM is read, for it idles at each start.
class RowUnits {
  public:
    RowUnits(int rows, int tokens)
        : rows_(rows),
          unit_(few(tokens) ? 8 : kSlab),
          stretch_(few(tokens) ? kFewValues / (tokens > 0 ? tokens : 1) / kSlab * kSlab : kSlab) {}

    int count() const { return (rows_ + unit_ - 1) / unit_; }

    // The first row of a unit; of count(): the end.
    int row(int unit) const { return unit * unit_ < rows_ ? unit * unit_ : rows_; }

    // run(begin, end) over rows of units begin .. end - 1, a stretch at most.
    template <class Run>
    void each_stretch(int begin, int end, const Run& run) const {
        const int last = row(end);
        for (int r = row(begin); r < last; r += stretch_) {
            run(r, r + stretch_ < last ? r + stretch_ : last);
        }
    }

    // Most tokens times rows of a stretch, no fewer for more tokens.
    static std::size_t most_values(int tokens) {
        return static_cast<std::size_t>(tokens * kSlab < kFewValues ? kFewValues : tokens * kSlab);
    }

  private:
    static bool few(int tokens) { return tokens < 8; }  // about where slabs begin

    static constexpr int kSlab = 32, kFewValues = 512;

    int rows_, unit_, stretch_;
};

// The tier and precision that all products of a job use.
struct Arithmetic {
    const Functions& tier;
    Precision precision;

    const FormatFunctions& of(const Matrix& matrix) const {
        return *format_of(tier, matrix.format);
    }
};

// The activations of some tokens and the forms made of them.
class Inputs {
  public:
    Inputs() = default;
    explicit Inputs(const Tokens& x) : x_(x) {}

    // Reserves the form that this matrix takes; it is empty until fill() has seen each token.
    void reserve(Memory& memory, const Arithmetic& arithmetic, const Matrix& matrix) {
        if (!matrix.present()) return;
        const Form form =
            form_of(arithmetic.of(matrix), arithmetic.precision, x_.columns, x_.count);
        if (find(form)) return;
        if (count_ == kForms) throw std::logic_error("a phase takes more forms of its inputs");
        const bool as_they_are = !form.pack && form.rounding == Rounding::none && !x_.index;
        forms_[count_] = form;
        places_[count_++] = as_they_are ? nullptr : memory.take<std::byte>(form.bytes);
    }

    // Units of tokens that can be filled apart.
    int pieces() const { return token_tiles(x_.count); }

    // Makes the forms of pieces begin .. end - 1.
    void fill(const Functions& tier, int begin, int end) const {
        const int last = end * kTokenTile < x_.count ? end * kTokenTile : x_.count;
        for (int i = 0; i < count_; ++i) {
            if (forms_[i].pack) {
                forms_[i].pack(x_, begin, end, places_[i]);
            } else if (places_[i]) {
                for (int t = begin * kTokenTile; t < last; ++t) fill_row(tier, i, t);
            }
        }
    }

    const Tokens& x() const { return x_; }

    // y[t][r] for rows begin .. end - 1 and all tokens.
    //   own   this worker's memory; what is taken of it is free again afterwards
    //   next  what is read after them, if it is known
    void multiply(const Arithmetic& arithmetic, const Matrix& matrix, int begin, int end,
                  Memory own, const Outputs& y, const std::uint8_t* next = nullptr) const {
        const FormatFunctions& format = arithmetic.of(matrix);
        const Form form = form_of(format, arithmetic.precision, x_.columns, x_.count);
        const Form* found = find(form);
        if (!found) throw std::logic_error("a matrix takes a form that was not reserved");
        const void* place = places_[found - forms_];
        Rows rows = rows_of(matrix);
        rows.next = next;
        const auto first = static_cast<std::size_t>(begin), last = static_cast<std::size_t>(end);
        if (form.pack) {
            const TokenProduct& product = product_of(format, arithmetic.precision);
            void* scratch = own.take<std::byte>(product.scratch_bytes(x_.columns));
            product.multiply(rows, first, last, place, x_.count, scratch, y);
        } else if (form.rounding != Rounding::none) {
            format.dot_rounded(rows, first, last, place, x_.count, y);
        } else if (place) {
            format.dot_exact(rows, first, last, static_cast<const float*>(place), x_.columns,
                             x_.count, y);
        } else {
            format.dot_exact(rows, first, last, x_.first, x_.stride, x_.count, y);
        }
    }

  private:
    const Form* find(const Form& form) const {
        for (int i = 0; i < count_; ++i) {
            if (forms_[i] == form) return forms_ + i;
        }
        return nullptr;
    }

    void fill_row(const Functions& tier, int i, int t) const {
        const auto at = static_cast<std::size_t>(t);
        const float* row =
            x_.first + static_cast<std::size_t>(x_.index ? x_.index[t] : t) * x_.stride;
        const std::size_t runs = runs_of(x_.columns);
        switch (forms_[i].rounding) {
            case Rounding::of_32:
                return tier.round_32(row, x_.columns,
                                     static_cast<RunOf32s*>(places_[i]) + at * runs);
            case Rounding::of_256:
                return tier.round_256(row, x_.columns,
                                      static_cast<RunOf256*>(places_[i]) + at * runs);
            case Rounding::none:
                std::memcpy(static_cast<float*>(places_[i]) + at * x_.columns, row,
                            x_.columns * sizeof(float));
        }
    }

    static constexpr int kForms = 6;  // more than the matrices of one phase differ in
    Tokens x_{};
    Form forms_[kForms];
    void* places_[kForms] = {};
    int count_ = 0;
};

}  // namespace hybrid
