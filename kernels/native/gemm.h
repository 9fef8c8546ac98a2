// Rows times many tokens. A row's blocks are unpacked once for all tokens, where the tier has a
// unit that repays it; else it is the row's own dot product, a few tokens at a time.
#pragma once

#if defined(__AVX512VNNI__)
#include "gemm_float.h"
#include "gemm_vnni.h"
#else
#include "gemm_rows.h"
#endif
#if defined(__AVX512BF16__)
#include "gemm_bf16.h"
#endif
#if defined(HYBRID_AMX)
#include "gemm_amx.h"
#endif

namespace hybrid::HYBRID_TIER {

#if defined(__AVX512VNNI__)

// Tokens from which a slab is faster than the row's own dot product, measured for 1408 x 2048
// weights read from memory (docs/log.md). Where numbers are quickly unpacked, that product is good.
template <class Block>
constexpr int kFromTokens = 5;
template <>
inline constexpr int kFromTokens<BF16> = 6;
template <>
inline constexpr int kFromTokens<Q2_K> = 9;
template <>
inline constexpr int kFromTokens<Q3_K> = 8;
template <>
inline constexpr int kFromTokens<Q6_K> = 8;
template <>
inline constexpr int kFromTokens<TQ2_0> = 8;

template <class Block>
constexpr TokenProduct exact_product() {
    return slab_product<FloatProduct<Block>>(8);
}

template <class Block>
constexpr TokenProduct rounded_product() {
    [[maybe_unused]] constexpr int kFrom = kFromTokens<Block>;
#if defined(HYBRID_AMX)
    if constexpr (Block::kWeights >= 32) return bytes_or_tiles<Block>(kFrom);
    if constexpr (Block::kId == BF16::kId) return slab_product<Bf16Tiles>(kFrom);
#else
    if constexpr (Block::kWeights == 256) return slab_product<SuperProduct<Block>>(kFrom);
    if constexpr (Block::kWeights == 32) return slab_product<SmallProduct<Block>>(kFrom);
#if defined(__AVX512BF16__)
    if constexpr (Block::kId == BF16::kId) return slab_product<Bf16Product>(kFrom);
#endif
#endif
    return exact_product<Block>();
}

#else

// Four tokens share a row anyway. The exact product takes all tokens at a row as they stand, and
// gains nothing from packing.
constexpr int kFromTokens = 5, kNever = 1 << 30;

template <class Block>
constexpr TokenProduct exact_product() {
    return {exact_packed_bytes, no_scratch_bytes, pack_exact, multiply_exact<Block>, kNever};
}

template <class Block>
constexpr TokenProduct rounded_product() {
    if constexpr (Block::kWeights == 256) {
        return {rounded_packed_bytes, no_scratch_bytes, pack_rounded<RunOf256>,
                multiply_rounded<Block, RunOf256>, kFromTokens};
    } else if constexpr (Block::kWeights == 32) {
        return {rounded_packed_bytes, no_scratch_bytes, pack_rounded<RunOf32s>,
                multiply_rounded<Block, RunOf32s>, kFromTokens};
    } else {
        return exact_product<Block>();
    }
}

#endif

}  // namespace hybrid::HYBRID_TIER
