// The tiers of vector code and what each of them offers: one table of functions a tier.
//
// Everything outside tiers/ is compiled for the oldest processor and reaches vector code through a
// table, found once by CPUID and what the operating system saves.
#pragma once

#include <cstddef>
#include <cstdint>

#include "activations.h"
#include "floats.h"

namespace hybrid {

enum class Tier : std::int32_t { scalar = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3, amx = 4 };
constexpr int kTiers = 5;

// Rows of one weight matrix in blocks.
struct Rows {
    const std::uint8_t* first;  // of row 0
    std::size_t stride_bytes;
    std::size_t columns;
    const std::uint8_t* next = nullptr;  // what the caller reads after these rows, to be asked for
};

// y[t][r] = row r times activations t, for rows begin .. end - 1 and `tokens` tokens.
struct Outputs {
    float* first;        // y[0][0]
    std::size_t stride;  // floats from one token's outputs to the next one's
};

// Activations of some tokens, for a product over many of them.
struct Tokens {
    const float* first;
    std::size_t stride;         // floats
    std::size_t columns;        // of each
    const std::int32_t* index;  // token t stands at first + index[t] * stride; null: at t
    int count;
};

constexpr int kTokenTile = 16;

inline int token_tiles(int tokens) {
    return (tokens + kTokenTile - 1) / kTokenTile;
}

// Rows times many tokens, in two steps: activations are packed for the tier's own unit, once and by
// any number of workers, a tile of kTokenTile tokens at least each; then each worker multiplies its
// rows. Both memories are aligned to 64 bytes and hold nothing from call to call.
struct TokenProduct {
    std::size_t (*packed_bytes)(std::size_t columns, int tokens);
    std::size_t (*scratch_bytes)(std::size_t columns);  // of one worker
    void (*pack)(const Tokens& x, int tile_begin, int tile_end, void* packed);
    void (*multiply)(const Rows& rows, std::size_t begin, std::size_t end, const void* packed,
                     int tokens, void* scratch, const Outputs& y);
    int from_tokens;  // from so many tokens on it is faster than the row's own dot product
};

// One format's functions in one tier.
struct FormatFunctions {
    std::int32_t format, weights, bytes;
    Rounding rounding;

    // Whole blocks of one row; bit-exact with ggml's decoders in every tier.
    void (*decode)(const std::uint8_t* row, std::size_t columns, float* out);

    // Rows times float32 activations, x_stride floats apart.
    void (*dot_exact)(const Rows& rows, std::size_t begin, std::size_t end, const float* x,
                      std::size_t x_stride, int tokens, const Outputs& y);

    // Rows times rounded activations, runs_of(columns) runs a token; null where `rounding` is none.
    void (*dot_rounded)(const Rows& rows, std::size_t begin, std::size_t end, const void* runs,
                        int tokens, const Outputs& y);

    // The same two products for many tokens. Without a `rounding`, activations are float32 in both,
    // except that tiers with bf16 products round them to bf16 for BF16 weights in the second. With
    // 32 or 48 tokens and more, amx rounds to bf16 both activations and decoded weights of every
    // format in blocks: closer to float32 products than activations of eight bits.
    TokenProduct product_exact, product_rounded;
};

struct Functions {
    Tier tier;
    const FormatFunctions* formats;
    std::int32_t format_count;

    // One row of `columns` floats as runs_of(columns) runs, padded with zeros.
    void (*round_32)(const float* x, std::size_t columns, RunOf32s* out);
    void (*round_256)(const float* x, std::size_t columns, RunOf256* out);

    FloatFunctions floats;
};

extern const Functions scalar_functions, avx2_functions, avx512_functions, avx512_bf16_functions,
    amx_functions;

constexpr int kBestTier = -1;

// Of a number of `Tier`, or of kBestTier; null for a tier that this processor, its operating system
// or this build does not have.
const Functions* functions_of(int tier);

// Of a table's formats, the one with this ggml id; null when there is none.
const FormatFunctions* format_of(const Functions& functions, std::int32_t format);

}  // namespace hybrid
