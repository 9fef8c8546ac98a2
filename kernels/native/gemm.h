// Rows times many tokens. A row's blocks are unpacked once for all tokens, where the tier has a
// unit that repays it; else it is the row's own dot product, a few tokens at a time.
#pragma once

#if defined(__AVX512VNNI__)
#include "gemm_float.h"
#include "gemm_vnni.h"
#if 0
#include "gemm_bf16.h"
#endif
#if 0
#include "gemm_amx.h"
#endif
#else
#include "gemm_rows.h"
#endif

namespace hybrid::HYBRID_TIER {

#if defined(__AVX512VNNI__)

template <class Block>
constexpr TokenProduct exact_product() {
    return slab_product<FloatProduct<Block>>(8);
}

template <class Block>
constexpr TokenProduct rounded_product() {
    if constexpr (Block::kWeights == 256) {
        return slab_product<SuperProduct<Block>>(8);
    } else if constexpr (Block::kWeights == 32) {
        return slab_product<SmallProduct<Block>>(8);
    } else {
        return exact_product<Block>();
    }
}

#else

template <class Block>
constexpr TokenProduct exact_product() {
    return {exact_packed_bytes, no_scratch_bytes, pack_exact, multiply_exact<Block>, 1};
}

template <class Block>
constexpr TokenProduct rounded_product() {
    if constexpr (Block::kWeights == 256) {
        return {rounded_packed_bytes, no_scratch_bytes, pack_rounded<RunOf256>,
                multiply_rounded<Block, RunOf256>, 1};
    } else if constexpr (Block::kWeights == 32) {
        return {rounded_packed_bytes, no_scratch_bytes, pack_rounded<RunOf32s>,
                multiply_rounded<Block, RunOf32s>, 1};
    } else {
        return exact_product<Block>();
    }
}

#endif

}  // namespace hybrid::HYBRID_TIER
