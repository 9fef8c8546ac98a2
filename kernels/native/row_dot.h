// A row of blocks times activations: the loops of every format, written once for all tiers.
#pragma once

#include "activations.h"
#include "formats.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

// While a row is read, the memory this far ahead is asked for: rows follow one another, and the
// processor's own prefetching stops at each 4 KiB.
constexpr std::size_t kPrefetchBytes = 2048;

inline void prefetch(const void* here, std::size_t bytes) {
    const auto* ahead = static_cast<const char*>(here) + kPrefetchBytes;
    for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(ahead + i, 0, 2);
}

template <class Block>
constexpr auto requires_minimum(int) -> decltype(&Block::minimum_factor, true) {
    return true;
}
template <class Block>
constexpr bool requires_minimum(long) {
    return false;
}
template <class Block>
constexpr auto requires_minimums(int) -> decltype(&Block::minimums, true) {
    return true;
}
template <class Block>
constexpr bool requires_minimums(long) {
    return false;
}

// Formats of 256 weights: integers all through a block, one float a block.
template <class Block, int kTokens>
void super_row_dot(const Block* block, std::size_t blocks, const RunOf256* const (&x)[kTokens],
                   float (&y)[kTokens]) {
    constexpr bool kHasMinimum = requires_minimum<Block>(0);
    RowSums rows[kTokens];
    Floats8 corrections[kTokens];
    for (int t = 0; t < kTokens; ++t) rows[t] = no_row_sums(), corrections[t] = all8(0);
    for (std::size_t b = 0; b < blocks; ++b, ++block) {
        prefetch(block, sizeof(Block));
        const Scales scales = block->scale_numbers();
        const float factor = block->factor();
        Sums sums[kTokens];
        for (int t = 0; t < kTokens; ++t) sums[t] = no_sums();
#pragma GCC unroll 4
        for (int quarter = 0; quarter < 4; ++quarter) {
            const auto numbers = block->numbers(quarter);
            const Words words = scale_words(scales, quarter);
            for (int t = 0; t < kTokens; ++t) {
                const Bytes activations = load_bytes(x[t][b].number + 64 * quarter);
                sums[t] = add_scaled(sums[t], products(numbers, activations), words);
            }
        }
        for (int t = 0; t < kTokens; ++t) {
            const RunOf256& run = x[t][b];
            rows[t] = add_times(rows[t], sums[t], factor * run.scale);
            if constexpr (kHasMinimum) {
                corrections[t] = add_scaled_sums(corrections[t], block->minimum_numbers(), run.sum,
                                                 -block->minimum_factor() * run.scale);
            } else if constexpr (Block::kOffset != 0) {
                corrections[t] = add_scaled_sums(corrections[t], scales, run.sum,
                                                 -Block::kOffset * factor * run.scale);
            }
        }
    }
    for (int t = 0; t < kTokens; ++t) y[t] = total(rows[t]) + total8(corrections[t]);
}

// Eight neighbouring blocks of a format of 32 weights against one run of each token.
template <class Block, int kTokens>
void add_eight_blocks(const Block* eight, std::size_t b, const RunOf32s* const (&x)[kTokens],
                      RowSums (&rows)[kTokens], Floats8 (&corrections)[kTokens]) {
    const Floats8 scales = Block::scales(eight);
    Floats8 factors[kTokens];
    for (int t = 0; t < kTokens; ++t) factors[t] = multiply8(scales, load8(x[t][b].scale));
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
        const auto numbers = Block::numbers(eight + 2 * pair);
        for (int t = 0; t < kTokens; ++t) {
            const Bytes activations = load_bytes(x[t][b].number + 64 * pair);
            rows[t] =
                add_times_pair(rows[t], block_products(numbers, activations), factors[t], pair);
        }
    }
    if constexpr (requires_minimums<Block>(0)) {
        const Floats8 minimums = Block::minimums(eight);
        for (int t = 0; t < kTokens; ++t)
            corrections[t] = fma8(minimums, load8(x[t][b].sum), corrections[t]);
    } else if constexpr (Block::kOffset != 0) {
        const Floats8 offsets = multiply8(scales, all8(-Block::kOffset));
        for (int t = 0; t < kTokens; ++t)
            corrections[t] = fma8(offsets, load8(x[t][b].sum), corrections[t]);
    }
}

// Formats of 32 weights: one float a block.
template <class Block, int kTokens>
void small_row_dot(const Block* block, std::size_t blocks, const RunOf32s* const (&x)[kTokens],
                   float (&y)[kTokens]) {
    RowSums rows[kTokens];
    Floats8 corrections[kTokens];
    for (int t = 0; t < kTokens; ++t) rows[t] = no_row_sums(), corrections[t] = all8(0);
    std::size_t run = 0;
    for (; blocks >= 8; blocks -= 8, block += 8, ++run) {
        prefetch(block, 8 * sizeof(Block));
        add_eight_blocks<Block, kTokens>(block, run, x, rows, corrections);
    }
    if (blocks) {
        Block padded[8] = {};
        std::memcpy(padded, block, blocks * sizeof(Block));
        add_eight_blocks<Block, kTokens>(padded, run, x, rows, corrections);
    }
    for (int t = 0; t < kTokens; ++t) y[t] = total(rows[t]) + total8(corrections[t]);
}

template <class Block, class Run, int kTokens>
void rows_dot(const Rows& rows, std::size_t begin, std::size_t end, const Run* runs,
              const Outputs& y) {
    const std::size_t blocks = rows.columns / Block::kWeights;
    const Run* x[kTokens];
    for (int t = 0; t < kTokens; ++t) x[t] = runs + t * runs_of(rows.columns);
    float sums[kTokens];
    for (std::size_t r = begin; r < end; ++r) {
        const auto* row = reinterpret_cast<const Block*>(rows.first + r * rows.stride_bytes);
        if constexpr (Block::kWeights == 256) {
            super_row_dot<Block, kTokens>(row, blocks, x, sums);
        } else {
            small_row_dot<Block, kTokens>(row, blocks, x, sums);
        }
        for (int t = 0; t < kTokens; ++t) y.first[t * y.stride + r] = sums[t];
    }
}

// Four tokens at a time share a row's unpacking.
template <class Block, class Run>
void dot_rounded(const Rows& rows, std::size_t begin, std::size_t end, const void* runs, int tokens,
                 const Outputs& y) {
    const auto* x = static_cast<const Run*>(runs);
    const std::size_t row_runs = runs_of(rows.columns);
    int t = 0;
    for (; t + 4 <= tokens; t += 4) {
        rows_dot<Block, Run, 4>(rows, begin, end, x + t * row_runs,
                                {y.first + t * y.stride, y.stride});
    }
    x += t * row_runs;
    const Outputs rest{y.first + t * y.stride, y.stride};
    if (tokens - t == 3) rows_dot<Block, Run, 3>(rows, begin, end, x, rest);
    if (tokens - t == 2) rows_dot<Block, Run, 2>(rows, begin, end, x, rest);
    if (tokens - t == 1) rows_dot<Block, Run, 1>(rows, begin, end, x, rest);
}

}  // namespace hybrid::HYBRID_TIER
