#include "library.h"
#include "tier.h"

void hybrid_dequantize(std::int32_t tier, std::int32_t format, const void* blocks,
                       std::size_t group_stride_bytes, std::size_t group_rows,
                       std::size_t row_stride_bytes, std::size_t row_begin, std::size_t row_end,
                       std::size_t columns, float* out) {
    const auto* bytes = static_cast<const std::uint8_t*>(blocks);
    const auto* functions = hybrid::format_of(*hybrid::functions_of(tier), format);
    for (std::size_t r = row_begin; r < row_end; ++r) {
        const auto* row =
            bytes + r / group_rows * group_stride_bytes + r % group_rows * row_stride_bytes;
        functions->decode(row, columns, out + r * columns);
    }
}
