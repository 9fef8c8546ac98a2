// The C border of norms, rotations, gates, the router, the latent cache and attention. As in
// library.h: nothing is checked, allocated or remembered, and every call runs on its own thread.
#pragma once

#include "floats.h"
#include "library.h"

// out[r] = x[r] / sqrt(mean(x[r]²) + epsilon) · weight, rows of `width`; out may be x. With
// `added`: x += added first.
HYBRID_EXPORT void hybrid_rms_norm(std::int32_t tier, const float* x, const float* weight,
                                   std::size_t rows, std::size_t width, float epsilon, float* out);
HYBRID_EXPORT void hybrid_add_rms_norm(std::int32_t tier, float* x, const float* added,
                                       const float* weight, std::size_t rows, std::size_t width,
                                       float epsilon, float* out);

// out = silu(gate) · up; sum += factor · x.
HYBRID_EXPORT void hybrid_silu_times(std::int32_t tier, const float* gate, const float* up,
                                     std::size_t count, float* out);
HYBRID_EXPORT void hybrid_add_scaled(std::int32_t tier, float* sum, const float* x, float factor,
                                     std::size_t count);

// kernels/rope/rope.h; then x [tokens][heads][length] rotated in place by those.
HYBRID_EXPORT void hybrid_rope_table(const double* frequency, std::size_t pairs,
                                     const std::int64_t* positions, std::size_t tokens,
                                     double amplitude, float* cos, float* sin);
HYBRID_EXPORT void hybrid_rotate(std::int32_t tier, float* x, std::size_t tokens, std::size_t heads,
                                 std::size_t length, const float* cos, const float* sin);

// kernels/router/router.h for `tokens` rows of logits.
//   counts   experts, used, groups, groups used
//   ways     sigmoid, best of group, normalise: 0 or 1
//   scratch  hybrid_router_scratch() floats
HYBRID_EXPORT std::size_t hybrid_router_scratch(std::int32_t experts, std::int32_t groups);
HYBRID_EXPORT void hybrid_choose_experts(const std::int32_t* counts, const std::int32_t* ways,
                                         float scale, const float* logits, const float* bias,
                                         std::size_t tokens, float* scratch, std::int32_t* chosen,
                                         float* share);

// Rows x [rows][width] into a cache of `format`, and cached rows as floats. Records: floats.h.
HYBRID_EXPORT void hybrid_write_cache_rows(std::int32_t tier, std::int32_t format, const float* x,
                                           std::size_t rows, std::size_t width, void* out,
                                           std::size_t stride_bytes);
HYBRID_EXPORT void hybrid_read_cache_rows(std::int32_t tier, const hybrid::CacheRows* rows,
                                          std::size_t begin, std::size_t end, float* out,
                                          std::size_t out_stride);

// Attention over the cache: a part of the rows, then parts joined into out [queries][latent].
HYBRID_EXPORT std::size_t hybrid_absorbed_scratch(std::size_t width);
HYBRID_EXPORT void hybrid_absorbed_attention(std::int32_t tier, const hybrid::CacheRows* rows,
                                             std::size_t begin, std::size_t end,
                                             const hybrid::AbsorbedQueries* queries,
                                             const hybrid::PartialAttention* out, float* scratch);
HYBRID_EXPORT void hybrid_join_attention(std::int32_t tier, const hybrid::PartialAttention* parts,
                                         std::size_t count, std::size_t queries, std::size_t latent,
                                         float* out, std::size_t out_stride);

// Ordinary attention of one head's queries begin .. end - 1.
HYBRID_EXPORT std::size_t hybrid_expanded_scratch(std::size_t key_length, std::size_t value_length,
                                                  std::size_t queries);
HYBRID_EXPORT void hybrid_expanded_attention(std::int32_t tier,
                                             const hybrid::ExpandedAttention* attention,
                                             std::size_t head, std::size_t begin, std::size_t end,
                                             float* scratch);
