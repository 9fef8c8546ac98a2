// Every block format, and the one switch from a ggml id to its struct.
#pragma once

#include "formats_iq.h"
#include "formats_k.h"
#include "formats_small.h"

namespace hybrid {

template <class Block>
struct Format {
    using Type = Block;
};

template <class Block, class... Others, class Run>
bool with_one_of(int id, const Run& run) {
    if (id == Block::kId) {
        run(Format<Block>{});
        return true;
    }
    if constexpr (sizeof...(Others) > 0) return with_one_of<Others...>(id, run);
    return false;
}

// Calls run(Format<Block>{}) for the format with this ggml id; false when there is none.
template <class Run>
bool with_format(int id, const Run& run) {
    return with_one_of<F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, Q2_K, Q3_K,
                       Q4_K, Q5_K, Q6_K, IQ4_XS, TQ1_0, TQ2_0, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS,
                       IQ3_S, IQ1_S, IQ1_M>(id, run);
}

// Decodes `columns` weights, whole blocks, standing at `bytes`. Never inlined: inside a caller's
// loops GCC 12 vectorises decode() four times worse.
template <class Block>
[[gnu::noinline]] void decode_blocks(const uint8_t* bytes, std::size_t columns,
                                     float* __restrict out) {
    const Block* block = reinterpret_cast<const Block*>(bytes);
    for (std::size_t c = 0; c < columns; c += Block::kWeights) (block++)->decode(out + c);
}

}  // namespace hybrid
