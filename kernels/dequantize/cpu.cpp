#include "formats.h"
#include "library.h"

void hybrid_dequantize(std::int32_t format, const void* blocks, std::size_t group_stride_bytes,
                       std::size_t group_rows, std::size_t row_stride_bytes, std::size_t row_begin,
                       std::size_t row_end, std::size_t columns, float* out) {
    const auto* bytes = static_cast<const std::uint8_t*>(blocks);
    hybrid::with_format(format, [=](auto chosen) {
        using Block = typename decltype(chosen)::Type;
        for (std::size_t r = row_begin; r < row_end; ++r) {
            const auto* row =
                bytes + r / group_rows * group_stride_bytes + r % group_rows * row_stride_bytes;
            hybrid::decode_blocks<Block>(row, columns, out + r * columns);
        }
    });
}
