#include "library.h"
#include "tier.h"

namespace {

const hybrid::TokenProduct& product(std::int32_t tier, std::int32_t format, std::int32_t exact) {
    const auto* functions = hybrid::format_of(*hybrid::functions_of(tier), format);
    return exact ? functions->product_exact : functions->product_rounded;
}

}  // namespace

std::size_t hybrid_product_packed_bytes(std::int32_t tier, std::int32_t format, std::int32_t exact,
                                        std::size_t columns, std::size_t tokens) {
    return product(tier, format, exact).packed_bytes(columns, static_cast<int>(tokens));
}

std::size_t hybrid_product_scratch_bytes(std::int32_t tier, std::int32_t format, std::int32_t exact,
                                         std::size_t columns) {
    return product(tier, format, exact).scratch_bytes(columns);
}

void hybrid_product_pack(std::int32_t tier, std::int32_t format, std::int32_t exact, const float* x,
                         std::size_t x_stride, std::size_t columns, const std::int32_t* index,
                         std::size_t tokens, std::size_t tile_begin, std::size_t tile_end,
                         void* packed) {
    product(tier, format, exact)
        .pack({x, x_stride, columns, index, static_cast<int>(tokens)}, static_cast<int>(tile_begin),
              static_cast<int>(tile_end), packed);
}

void hybrid_product_multiply(std::int32_t tier, std::int32_t format, std::int32_t exact,
                             const void* blocks, std::size_t row_stride_bytes,
                             std::size_t row_begin, std::size_t row_end, std::size_t columns,
                             const void* packed, std::size_t tokens, void* scratch, float* y,
                             std::size_t y_stride) {
    const hybrid::Rows rows{static_cast<const std::uint8_t*>(blocks), row_stride_bytes, columns};
    product(tier, format, exact)
        .multiply(rows, row_begin, row_end, packed, static_cast<int>(tokens), scratch,
                  {y, y_stride});
}
