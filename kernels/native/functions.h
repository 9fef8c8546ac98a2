// Fills a tier's table. Each file of tiers/ includes this once, under its own flags and name.
#pragma once

#include "../attention/absorbed_lanes.h"
#include "../attention/expanded_lanes.h"
#include "../expert_ffn/silu_lanes.h"
#include "../rms_norm/rms_norm_lanes.h"
#include "../rope/rotate_lanes.h"
#include "exact_dot.h"
#include "gemm.h"
#include "rounding.h"
#include "row_dot.h"

namespace hybrid::HYBRID_TIER {

template <class Block>
constexpr FormatFunctions format_functions() {
    FormatFunctions made{};
    made.format = Block::kId;
    made.weights = Block::kWeights;
    made.bytes = sizeof(Block);
    made.decode = decode_blocks<Block>;
    made.dot_exact = dot_exact<Block>;
    if constexpr (Block::kWeights == 256) {
        made.rounding = Rounding::of_256;
        made.dot_rounded = dot_rounded<Block, RunOf256>;
    } else if constexpr (Block::kWeights == 32) {
        made.rounding = Rounding::of_32;
        made.dot_rounded = dot_rounded<Block, RunOf32s>;
    }
    made.product_exact = exact_product<Block>();
    made.product_rounded = rounded_product<Block>();
    return made;
}

template <class... Blocks>
struct Table {
    static constexpr FormatFunctions formats[] = {format_functions<Blocks>()...};
    static constexpr std::int32_t count = sizeof...(Blocks);
};

using AllFormats =
    Table<F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,
          IQ4_XS, TQ1_0, TQ2_0, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M>;

constexpr FloatFunctions float_functions() {
    return {rms_norm,       add_rms_norm,      silu_times,      add_scaled_row,
            rotate,         write_cache_row,   read_cache_rows, absorbed_attention,
            join_attention, expanded_attention};
}

constexpr Functions functions_as(Tier tier) {
    return {tier, AllFormats::formats, AllFormats::count, round_32, round_256, float_functions()};
}

}  // namespace hybrid::HYBRID_TIER
