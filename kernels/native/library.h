// The C border: everything Python may call. Pointers and sizes only; no torch, no Python.
//
// Nothing is checked here: the contracts in kernels/<op>/__init__.py have checked shapes, types and
// sizes. Nothing is allocated, no thread is started, no state is kept but the codebooks; calls may
// run at once. A format is named by its ggml id. Sizes are bytes where the name says so, else
// elements.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hybrid {
struct Matrix;   // product.h
struct Experts;  // expert_ffn/feed_forward.h
}  // namespace hybrid

#define HYBRID_EXPORT extern "C" __attribute__((visibility("default")))

// Raised whenever a signature below changes; library.py refuses another number.
HYBRID_EXPORT std::int32_t hybrid_abi_version();

// Bytes of a record of the border, by its number in `RECORDS` of records.py; 0 for another number.
HYBRID_EXPORT std::int64_t hybrid_record_bytes(std::int32_t which);

// Tiers of vector code by number: 0 scalar, 1 AVX2, 2 AVX-512, 3 AVX-512 BF16, 4 AMX. Functions
// that take a tier also take -1, the best one here; a tier that is not here must not be asked for.
HYBRID_EXPORT std::int32_t hybrid_has_tier(std::int32_t tier);
HYBRID_EXPORT std::int32_t hybrid_best_tier();

// Weights and bytes of one block; 0 for a format this library does not know.
HYBRID_EXPORT std::int32_t hybrid_block_weights(std::int32_t format);
HYBRID_EXPORT std::int32_t hybrid_block_bytes(std::int32_t format);

// Gives an IQ format its codebook, once, before its first use.
//   values   [entries][group] int8, as `kernels.codebooks` holds it
//   returns  1, or 0 when the format has no codebook or `bytes` is not its size
HYBRID_EXPORT std::int32_t hybrid_set_codebook(std::int32_t format, const std::int8_t* values,
                                               std::size_t bytes);

// The functions below are jobs of the pool (pool_border.h): `threads` workers, 0: all there are;
// they return 0, or an error number of the pool. `precision` is 0 for activations rounded to eight
// bits, 1 for float32. A row is summed in one order: results do not depend on how rows are shared
// out. A workspace has at least the bytes that the function's _bytes() gives for the same
// arguments.

// Every weight of `rows` rows as float32.
//   blocks   groups (heads, experts) of group_rows rows; groups and rows lie their strides apart
//   out      [rows][columns], rows counted through all groups
HYBRID_EXPORT std::int32_t hybrid_dequantize(std::int32_t tier, std::int32_t threads,
                                             std::int32_t format, const void* blocks,
                                             std::size_t group_stride_bytes, std::size_t group_rows,
                                             std::size_t row_stride_bytes, std::size_t rows,
                                             std::size_t columns, float* out);

// y[t][r] = sum over c of x[t][c] * weight[r][c].
//   x        [tokens][columns], rows x_stride floats apart
//   y        [tokens][rows]
HYBRID_EXPORT std::int64_t hybrid_linear_bytes(std::int32_t tier, std::int32_t precision,
                                               const hybrid::Matrix* matrix, std::int32_t tokens,
                                               std::int32_t threads);
HYBRID_EXPORT std::int32_t hybrid_linear(std::int32_t tier, std::int32_t precision,
                                         std::int32_t threads, const hybrid::Matrix* matrix,
                                         const float* x, std::int64_t x_stride, std::int32_t tokens,
                                         float* y, void* workspace, std::int64_t workspace_bytes);

// out[t] += sum over k of share[t][k] * down(silu(gate x[t]) * up x[t]) of expert chosen[t][k];
// experts that are not among `experts` add nothing.
//   x, out          [tokens][width]
//   chosen, share   [tokens][experts->used]
HYBRID_EXPORT std::int64_t hybrid_expert_ffn_bytes(std::int32_t tier, std::int32_t precision,
                                                   const hybrid::Experts* experts,
                                                   std::int32_t tokens, std::int32_t threads);
HYBRID_EXPORT std::int32_t hybrid_expert_ffn(std::int32_t tier, std::int32_t precision,
                                             std::int32_t threads, const hybrid::Experts* experts,
                                             const float* x, std::int32_t tokens,
                                             const std::int32_t* chosen, const float* share,
                                             float* out, void* workspace,
                                             std::int64_t workspace_bytes);

// For tests and benches: dot products with rounded activations, as fused ops run them.
//
// hybrid_round: rows of x as `runs`, rounded as the format's dot product takes them.
//   x        [tokens][columns], rows x_stride floats apart
//   runs     [tokens][ceil(columns / 256)] of 320 bytes, 64-byte aligned
// hybrid_dot_rounded: rows row_begin .. row_end - 1 times those. Not for plain floats.
HYBRID_EXPORT void hybrid_round(std::int32_t tier, std::int32_t format, const float* x,
                                std::size_t x_stride, std::size_t columns, std::size_t tokens,
                                void* runs);
HYBRID_EXPORT void hybrid_dot_rounded(std::int32_t tier, std::int32_t format, const void* blocks,
                                      std::size_t row_stride_bytes, std::size_t row_begin,
                                      std::size_t row_end, std::size_t columns, const void* runs,
                                      std::size_t tokens, float* y, std::size_t y_stride);

// For tests and benches: products with many tokens, in the two steps that fused ops take. `exact`
// is 1 for float32 activations, 0 for rounded ones.
//
// hybrid_product_packed_bytes, hybrid_product_scratch_bytes: sizes of `packed` and `scratch`, both
// 64-byte aligned.
// hybrid_product_pack: tiles tile_begin .. tile_end - 1 of 16 tokens each.
//   x        rows of `columns`, x_stride floats apart; token t is row index[t], or t without index
// hybrid_product_multiply: y of hybrid_linear, tokens as they were packed.
HYBRID_EXPORT std::size_t hybrid_product_packed_bytes(std::int32_t tier, std::int32_t format,
                                                      std::int32_t exact, std::size_t columns,
                                                      std::size_t tokens);
HYBRID_EXPORT std::size_t hybrid_product_scratch_bytes(std::int32_t tier, std::int32_t format,
                                                       std::int32_t exact, std::size_t columns);
HYBRID_EXPORT void hybrid_product_pack(std::int32_t tier, std::int32_t format, std::int32_t exact,
                                       const float* x, std::size_t x_stride, std::size_t columns,
                                       const std::int32_t* index, std::size_t tokens,
                                       std::size_t tile_begin, std::size_t tile_end, void* packed);
HYBRID_EXPORT void hybrid_product_multiply(std::int32_t tier, std::int32_t format,
                                           std::int32_t exact, const void* blocks,
                                           std::size_t row_stride_bytes, std::size_t row_begin,
                                           std::size_t row_end, std::size_t columns,
                                           const void* packed, std::size_t tokens, void* scratch,
                                           float* y, std::size_t y_stride);
