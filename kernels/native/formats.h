// Every block format.
#pragma once

#include "formats_iq1.h"
#include "formats_iq2.h"
#include "formats_iq3.h"
#include "formats_k.h"
#include "formats_small.h"
#include "formats_ternary.h"

namespace hybrid::HYBRID_TIER {

// Decodes `columns` weights, whole blocks, standing at `bytes`. Never inlined: inside a caller's
// loops GCC 12 vectorises decode() four times worse.
template <class Block>
[[gnu::noinline]] void decode_blocks(const uint8_t* bytes, std::size_t columns,
                                     float* __restrict out) {
    const Block* block = reinterpret_cast<const Block*>(bytes);
    for (std::size_t c = 0; c < columns; c += Block::kWeights) (block++)->decode(out + c);
}

}  // namespace hybrid::HYBRID_TIER
