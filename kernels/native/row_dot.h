// A row of blocks times activations: the loops of every format, written once for all tiers.
#pragma once

#include "activations.h"
#include "formats.h"
#include "prefetch.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

// While a row is read, the memory this far ahead is asked for, since the processor's own
// prefetching stops at each 4 KiB: rows follow one another, and after the last comes what the
// caller reads next.
constexpr std::ptrdiff_t kPrefetchBytes = 8192;

class Ahead {
  public:
    Ahead(const Rows& rows, std::size_t begin, std::size_t end)
        : end_(rows.first + end * rows.stride_bytes), next_(rows.next) {
        const auto bytes = static_cast<std::ptrdiff_t>((end - begin) * rows.stride_bytes);
        if (next_ && bytes < kPrefetchBytes) {
            prefetch(next_, static_cast<std::size_t>(kPrefetchBytes - bytes));
        }
    }

    void fetch(const void* here, std::size_t bytes) const {
        const auto* ahead = static_cast<const std::uint8_t*>(here) + kPrefetchBytes;
        if (ahead < end_) {
            prefetch(ahead, bytes);
        } else if (next_) {
            prefetch(next_ + (ahead - end_), bytes);
        }
    }

  private:
    const std::uint8_t *end_, *next_;
};

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

template <class Block>
FactorPair factors_of_block(const Block& block) {
    if constexpr (requires_minimum<Block>(0)) {
        return block.factors();
    } else {
        return {block.factor(), 0};
    }
}

// What a row has come to for each token: products, and what offsets or minima take away.
template <int kTokens>
struct Partial {
    RowSums row[kTokens];
    Floats8 correction[kTokens];

    Partial() {
        for (int t = 0; t < kTokens; ++t) row[t] = no_row_sums(), correction[t] = all8(0);
    }
    void finish(float (&y)[kTokens]) const {
        for (int t = 0; t < kTokens; ++t) y[t] = total(with_floats(row[t], correction[t]));
    }
};

// Formats of 256 weights: integers all through a block, one float a block.
template <class Block, int kTokens>
void super_row_dot(const Block* block, std::size_t blocks, const Ahead& ahead,
                   const RunOf256* const (&x)[kTokens], float (&y)[kTokens]) {
    Partial<kTokens> partial;
    for (std::size_t b = 0; b < blocks; ++b, ++block) {
        ahead.fetch(block, sizeof(Block));
        const Scales scales = block->scale_numbers();
        const FactorPair factors = factors_of_block(*block);
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
            partial.row[t] = add_times(partial.row[t], sums[t], factors.factor * run.scale);
            if constexpr (requires_minimum<Block>(0)) {
                partial.correction[t] =
                    add_scaled_sums(partial.correction[t], block->minimum_numbers(), run.sum,
                                    -factors.minimum * run.scale);
            } else if constexpr (Block::kOffset != 0) {
                partial.correction[t] =
                    add_scaled_sums(partial.correction[t], scales, run.sum,
                                    -Block::kOffset * factors.factor * run.scale);
            }
        }
    }
    partial.finish(y);
}

// 2 pairs neighbouring blocks of a format of 32 weights against one run of each token.
//   scales   of those blocks, then of any others, whose activations are zeros
//   lows     what activations of zero number weigh: minima, or scales times the offset; the same
template <class Block, int kTokens>
[[gnu::always_inline]] inline void add_blocks(const Block* block, int pairs, Floats8 scales,
                                              Floats8 lows, const RunOf32s* const (&x)[kTokens],
                                              std::size_t run, Partial<kTokens>& partial) {
    Factors factors[kTokens];
    RowSums rows[kTokens];  // of this run alone: no long chain of additions
    for (int t = 0; t < kTokens; ++t) {
        factors[t] = factors_of(multiply8(scales, load8(x[t][run].scale)));
        rows[t] = no_row_sums();
    }
#pragma GCC unroll 4
    for (int pair = 0; pair < pairs; ++pair) {
        const auto numbers = Block::numbers(block + 2 * pair);
        for (int t = 0; t < kTokens; ++t) {
            const Bytes activations = load_bytes(x[t][run].number + 64 * pair);
            rows[t] =
                add_times_pair(rows[t], block_products(numbers, activations), factors[t], pair);
        }
    }
    for (int t = 0; t < kTokens; ++t) {
        partial.row[t] = add_rows(partial.row[t], rows[t]);
        if constexpr (requires_minimums<Block>(0) || Block::kOffset != 0) {
            partial.correction[t] = fma8(lows, load8(x[t][run].sum), partial.correction[t]);
        }
    }
}

template <class Block>
Floats8 lows_of(const Block* eight, Floats8 scales) {
    if constexpr (requires_minimums<Block>(0)) {
        return Block::minimums(eight);
    } else {
        return multiply8(scales, all8(-Block::kOffset));
    }
}

// Formats of 32 weights: one float a block. In line, so that constants are made once for all rows.
template <class Block, int kTokens>
[[gnu::always_inline]] inline void small_row_dot(const Block* block, std::size_t blocks,
                                                 const Ahead& ahead,
                                                 const RunOf32s* const (&x)[kTokens],
                                                 float (&y)[kTokens]) {
    Partial<kTokens> partial;
    const Block* const end = block + blocks;
    std::size_t run = 0;
    for (; end - block >= 8; block += 8, ++run) {
        ahead.fetch(block, 8 * sizeof(Block));
        const Floats8 scales = Block::scales(block);
        add_blocks<Block, kTokens>(block, 4, scales, lows_of(block, scales), x, run, partial);
    }
    const int rest = static_cast<int>(end - block);
    if (rest % 2 == 0 && rest && run) {  // scales are read eight at a time: the row's last eight
        const Floats8 scales = Block::scales(end - 8);
        const Floats8 lows = lows_of(end - 8, scales);
        add_blocks<Block, kTokens>(block, rest / 2, rotated8(scales, 8 - rest),
                                   rotated8(lows, 8 - rest), x, run, partial);
    } else if (rest) {
        Block padded[8] = {};
        std::memcpy(padded, block, static_cast<std::size_t>(rest) * sizeof(Block));
        const Floats8 scales = Block::scales(padded);
        add_blocks<Block, kTokens>(padded, 4, scales, lows_of(padded, scales), x, run, partial);
    }
    partial.finish(y);
}

// Two rows of four blocks that follow one another, as one run: short rows, such as those of an
// attention head's key matrix, spend their time on starting and summing up.
template <class Block>
void short_rows_dot(const Rows& rows, std::size_t begin, std::size_t end, const Ahead& ahead,
                    const RunOf32s& x, const Outputs& y) {
    RunOf32s twice = x;
    std::memcpy(twice.number + 128, x.number, 128);
    std::memcpy(twice.scale + 4, x.scale, 4 * sizeof(float));
    std::memcpy(twice.sum + 4, x.sum, 4 * sizeof(float));
    const Floats8 x_scales = load8(twice.scale), x_sums = load8(twice.sum);
    std::size_t r = begin;
    for (; r + 2 <= end; r += 2) {
        const auto* block = reinterpret_cast<const Block*>(rows.first + r * rows.stride_bytes);
        ahead.fetch(block, 8 * sizeof(Block));
        const Floats8 scales = Block::scales(block);
        const Factors factors = factors_of(multiply8(scales, x_scales));
        RowSums sums[2] = {no_row_sums(), no_row_sums()};
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
            const Bytes activations = load_bytes(twice.number + 64 * pair);
            sums[pair / 2] = add_times_pair(
                sums[pair / 2], block_products(Block::numbers(block + 2 * pair), activations),
                factors, pair);
        }
        float low[8];
        store8(multiply8(lows_of(block, scales), x_sums), low);
        y.first[r] = total(sums[0]) + ((low[0] + low[1]) + (low[2] + low[3]));
        y.first[r + 1] = total(sums[1]) + ((low[4] + low[5]) + (low[6] + low[7]));
    }
    if (r == end) return;
    const RunOf32s* const one[1] = {&x};
    float sum[1];
    const auto* block = reinterpret_cast<const Block*>(rows.first + r * rows.stride_bytes);
    small_row_dot<Block, 1>(block, 4, ahead, one, sum);
    y.first[r] = sum[0];
}

template <class Block, class Run, int kTokens>
void rows_dot(const Rows& rows, std::size_t begin, std::size_t end, const Ahead& ahead,
              const Run* runs, const Outputs& y) {
    const std::size_t blocks = rows.columns / Block::kWeights;
    if constexpr (Block::kWeights == 32 && kTokens == 1) {
        if (blocks == 4 && rows.stride_bytes == 4 * sizeof(Block)) {
            return short_rows_dot<Block>(rows, begin, end, ahead, *runs, y);
        }
    }
    const Run* x[kTokens];
    for (int t = 0; t < kTokens; ++t) x[t] = runs + t * runs_of(rows.columns);
    float sums[kTokens];
    for (std::size_t r = begin; r < end; ++r) {
        const auto* row = reinterpret_cast<const Block*>(rows.first + r * rows.stride_bytes);
        if constexpr (Block::kWeights == 256) {
            super_row_dot<Block, kTokens>(row, blocks, ahead, x, sums);
        } else {
            small_row_dot<Block, kTokens>(row, blocks, ahead, x, sums);
        }
        for (int t = 0; t < kTokens; ++t) y.first[t * y.stride + r] = sums[t];
    }
}

// Four tokens at a time share a row's unpacking.
template <class Block, class Run>
void band_dot(const Rows& rows, std::size_t begin, std::size_t end, const Ahead& ahead,
              const Run* x, int tokens, const Outputs& y) {
    const std::size_t row_runs = runs_of(rows.columns);
    int t = 0;
    for (; t + 4 <= tokens; t += 4) {
        rows_dot<Block, Run, 4>(rows, begin, end, ahead, x + t * row_runs,
                                {y.first + t * y.stride, y.stride});
    }
    x += t * row_runs;
    const Outputs rest{y.first + t * y.stride, y.stride};
    if (tokens - t == 3) rows_dot<Block, Run, 3>(rows, begin, end, ahead, x, rest);
    if (tokens - t == 2) rows_dot<Block, Run, 2>(rows, begin, end, ahead, x, rest);
    if (tokens - t == 1) rows_dot<Block, Run, 1>(rows, begin, end, ahead, x, rest);
}

// A few rows at a time where they are gone through more than once: they are read from memory once.
template <class Block, class Run>
void dot_rounded(const Rows& rows, std::size_t begin, std::size_t end, const void* runs, int tokens,
                 const Outputs& y) {
    const Ahead ahead(rows, begin, end);
    const std::size_t band = tokens > 4 ? 16 : end - begin;
    for (std::size_t r = begin; r < end; r += band) {
        band_dot<Block, Run>(rows, r, end - r < band ? end : r + band, ahead,
                             static_cast<const Run*>(runs), tokens, y);
    }
}

}  // namespace hybrid::HYBRID_TIER
