#include "formats.h"
#include "library.h"

void hybrid_dequantize(std::int32_t format, const void* blocks, std::size_t row_stride_bytes,
                       std::size_t rows, std::size_t columns, float* out) {
    const auto* bytes = static_cast<const std::uint8_t*>(blocks);
    hybrid::with_format(format, [=](auto chosen) {
        using Block = typename decltype(chosen)::Type;
        for (std::size_t r = 0; r < rows; ++r) {
            hybrid::decode_blocks<Block>(bytes + r * row_stride_bytes, columns, out + r * columns);
        }
    });
}
