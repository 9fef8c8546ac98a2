#include "floats_border.h"
#include "tier.h"

void hybrid_write_cache_rows(std::int32_t tier, std::int32_t format, const float* x,
                             std::size_t rows, std::size_t width, void* out,
                             std::size_t stride_bytes) {
    const auto write = hybrid::functions_of(tier)->floats.write_cache_row;
    for (std::size_t r = 0; r < rows; ++r) {
        write(format, x + r * width, width, static_cast<std::uint8_t*>(out) + r * stride_bytes);
    }
}

void hybrid_read_cache_rows(std::int32_t tier, const hybrid::CacheRows* rows, std::size_t begin,
                            std::size_t end, float* out, std::size_t out_stride) {
    hybrid::functions_of(tier)->floats.read_cache_rows(*rows, begin, end, out, out_stride);
}

std::size_t hybrid_absorbed_scratch(std::size_t width) {
    return hybrid::absorbed_scratch(width);
}

void hybrid_absorbed_attention(std::int32_t tier, const hybrid::CacheRows* rows, std::size_t begin,
                               std::size_t end, const hybrid::AbsorbedQueries* queries,
                               const hybrid::PartialAttention* out, float* scratch) {
    const auto attend = hybrid::functions_of(tier)->floats.absorbed_attention;
    attend(*rows, begin, end, *queries, *out, scratch);
}

void hybrid_join_attention(std::int32_t tier, const hybrid::PartialAttention* parts,
                           std::size_t count, std::size_t queries, std::size_t latent, float* out,
                           std::size_t out_stride) {
    const auto join = hybrid::functions_of(tier)->floats.join_attention;
    for (std::size_t q = 0; q < queries; ++q) join(parts, count, q, latent, out + q * out_stride);
}

std::size_t hybrid_expanded_scratch(std::size_t key_length, std::size_t value_length,
                                    std::size_t queries) {
    return hybrid::expanded_scratch(key_length, value_length, queries);
}

void hybrid_expanded_attention(std::int32_t tier, const hybrid::ExpandedAttention* attention,
                               std::size_t head, std::size_t begin, std::size_t end,
                               float* scratch) {
    const auto attend = hybrid::functions_of(tier)->floats.expanded_attention;
    attend(*attention, head, begin, end, scratch);
}
