#include "library.h"
#include "tier.h"

void hybrid_linear(std::int32_t tier, std::int32_t format, const void* blocks,
                   std::size_t row_stride_bytes, std::size_t row_begin, std::size_t row_end,
                   std::size_t columns, const float* x, std::size_t x_stride, std::size_t tokens,
                   float* y, std::size_t y_stride) {
    const auto* functions = hybrid::format_of(*hybrid::functions_of(tier), format);
    const hybrid::Rows rows{static_cast<const std::uint8_t*>(blocks), row_stride_bytes, columns};
    functions->dot_exact(rows, row_begin, row_end, x, x_stride, static_cast<int>(tokens),
                         {y, y_stride});
}
