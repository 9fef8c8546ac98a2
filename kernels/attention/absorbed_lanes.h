// Attention of a few tokens over the latent cache itself, which serves as keys and as values.
//
//     rows ─ decode 32 ─► tile [32][latent + rope] ─┬─ · q ──► scores [queries][32] ─ softmax ─┐
//                                                   └─────────────── weights · tile ◄──────────┘
//
// A tile is decoded once for all heads and tokens and stays in the L2 cache. Scores are dot
// products of four queries (at 16 lanes) with four rows: as many sums as a register has lanes, so
// that adding up their lanes costs four operations a sum. Other contexts' workers attend to other
// rows; join_attention() puts the parts together.
#pragma once

#include "../attention/cache_lanes.h"
#include "../attention/softmax_lanes.h"
#include "block_product.h"
#include "prefetch.h"

namespace hybrid::HYBRID_TIER {

constexpr int kScoreRows = 4;
constexpr int kScoreQueries = kLanes / kScoreRows;

// At most kAbsorbedGroup of the queries, their scores and the tile.
struct AbsorbedGroup {
    const float* query[kAbsorbedGroup];
    std::size_t visible[kAbsorbedGroup];  // rows of the tile
    std::size_t first, count;
};

struct AbsorbedTile {
    float* rows;  // [kCacheTile][stride]
    std::size_t stride, width, first, count;
    float* scores;  // [kAbsorbedGroup][kCacheTile]
};

inline void fill_group(const AbsorbedQueries& queries, const AbsorbedTile& tile,
                       AbsorbedGroup& group) {
    std::size_t token = group.first / queries.heads, head = group.first % queries.heads;
    for (std::size_t i = 0; i < group.count; ++i) {
        group.query[i] = queries.first + token * queries.token_stride + head * queries.head_stride;
        const std::size_t end = queries.visible + token;
        const std::size_t visible = end > tile.first ? end - tile.first : 0;
        group.visible[i] = visible < tile.count ? visible : tile.count;
        if (++head == queries.heads) head = 0, ++token;
    }
}

// Scores of kQueries queries and four rows of the tile.
template <int kQueries>
inline void score_block(const AbsorbedTile& tile, const float* const* query, std::size_t row,
                        Lanes scale, float* out) {
    const float* rows = tile.rows + row * tile.stride;
    Lanes sums[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) sums[i] = no_lanes();
    const float* q[kQueries];
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) q[i] = query[i];
    std::size_t c = 0;
    for (; c + kLanes <= tile.width; c += kLanes) {
        Lanes row_lanes[kScoreRows];
#pragma GCC unroll 4
        for (int r = 0; r < kScoreRows; ++r) row_lanes[r] = load(rows + r * tile.stride + c);
#pragma GCC unroll 4
        for (int i = 0; i < kQueries; ++i) {
            const Lanes here = load(q[i] + c);
#pragma GCC unroll 4
            for (int r = 0; r < kScoreRows; ++r) {
                sums[kScoreRows * i + r] = fma(here, row_lanes[r], sums[kScoreRows * i + r]);
            }
        }
    }
    if (c < tile.width) {
#pragma GCC unroll 4
        for (int i = 0; i < kQueries; ++i) {
            const Lanes here = load_first(q[i] + c, tile.width - c);
#pragma GCC unroll 4
            for (int r = 0; r < kScoreRows; ++r) {
                const Lanes there = load(rows + r * tile.stride + c);
                sums[kScoreRows * i + r] = fma(here, there, sums[kScoreRows * i + r]);
            }
        }
    }
    float scores[kLanes];
    store(multiply(totals(sums), scale), scores);
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {
        std::memcpy(out + i * kCacheTile + row, scores + kScoreRows * i, sizeof(float) * 4);
    }
}

template <int kQueries>
[[gnu::noinline]] void score_rows(const AbsorbedTile& tile, const float* const* query,
                                  std::size_t begin, std::size_t end, float scale, float* out) {
    const Lanes scales = all_lanes(scale);
    for (std::size_t row = begin; row < end; row += kScoreRows) {
        score_block<kQueries>(tile, query, row, scales, out);
    }
}

// Rows begin .. end - 1 of the tile, at most eight: with the queries of a block they stay in L1.
inline void score_group(const AbsorbedTile& tile, const AbsorbedGroup& group, std::size_t begin,
                        std::size_t end, float scale) {
    std::size_t i = 0;
    for (; i + kScoreQueries <= group.count; i += kScoreQueries) {
        score_rows<kScoreQueries>(tile, group.query + i, begin, end, scale,
                                  tile.scores + i * kCacheTile);
    }
    for (; i < group.count; ++i) {
        score_rows<1>(tile, group.query + i, begin, end, scale, tile.scores + i * kCacheTile);
    }
}

inline void prefetch_rows(const CacheRows& rows, std::size_t begin, std::size_t end) {
    const std::size_t bytes = cache_row_bytes(rows);
    for (std::size_t r = begin; r < end; ++r) {
        prefetch(rows.first + r * rows.stride_bytes, bytes);
    }
}

// Weights of the group's queries for the tile, then the rows weighted and added up.
inline void attend_group(const AbsorbedTile& tile, const AbsorbedGroup& group,
                         const Running& running, std::size_t latent, const PartialAttention& out) {
    for (std::size_t i = 0; i < group.count; ++i) {
        weigh(tile.scores + i * kCacheTile, kCacheTile, group.visible[i], running, i);
    }
    add_weights(running, group.count);
    for (std::size_t i = 0; i < group.count;) {
        const std::size_t rows = group_of(group.count - i);
        const Product values{tile.scores + i * kCacheTile,
                             kCacheTile,
                             tile.rows,
                             tile.stride,
                             out.values + (group.first + i) * out.value_stride,
                             out.value_stride,
                             tile.count,
                             running.kept + i};
        product<true>(values, rows, latent);
        i += rows;
    }
}

inline void absorbed_attention(const CacheRows& rows, std::size_t begin, std::size_t end,
                               const AbsorbedQueries& queries, const PartialAttention& out,
                               float* scratch) {
    constexpr std::size_t kRowsAtOnce = 8;
    const std::size_t width = rows.latent + rows.rope, count = queries.tokens * queries.heads;
    const std::size_t row_length = whole(rows.latent, kValueRow);
    AbsorbedTile tile{scratch, whole(width, kValueRow), width, 0, 0, nullptr};
    tile.scores = scratch + kCacheTile * tile.stride;
    float* kept = tile.scores + kAbsorbedGroup * kCacheTile;
    start_running({out.largest, out.sum, nullptr, nullptr}, count);
    for (std::size_t q = 0; q < count; ++q) {
        std::memset(out.values + q * out.value_stride, 0, row_length * sizeof(float));
    }
    std::memset(tile.rows, 0, kCacheTile * tile.stride * sizeof(float));
    for (std::size_t first = begin; first < end; first += kCacheTile) {
        tile.first = first;
        tile.count = end - first < kCacheTile ? end - first : kCacheTile;
        read_cache_rows(rows, first, first + tile.count, tile.rows, tile.stride);
        AbsorbedGroup group;
        for (group.first = 0; group.first < count; group.first += group.count) {
            const std::size_t left = count - group.first;
            group.count = left < kAbsorbedGroup ? left : kAbsorbedGroup;
            fill_group(queries, tile, group);
            for (std::size_t row = 0; row < tile.count; row += kRowsAtOnce) {
                const std::size_t last =
                    tile.count - row < kRowsAtOnce ? tile.count : row + kRowsAtOnce;
                const std::size_t next = first + kCacheTile + row;  // waits in L2 for its turn
                if (group.first == 0 && next < end) {
                    prefetch_rows(rows, next, next + kRowsAtOnce < end ? next + kRowsAtOnce : end);
                }
                score_group(tile, group, row, last, queries.scale);
            }
            const Running running{out.largest + group.first, out.sum + group.first, kept,
                                  kept + kAbsorbedGroup};
            attend_group(tile, group, running, rows.latent, out);
        }
    }
}

inline void join_attention(const PartialAttention* parts, std::size_t count, std::size_t query,
                           std::size_t latent, float* out) {
    float most = kLowest, sum = 0;
    for (std::size_t p = 0; p < count; ++p) {
        const float largest = parts[p].largest[query];
        most = most > largest ? most : largest;  // a NaN comes back with the sum
    }
    for (std::size_t p = 0; p < count; ++p) {
        sum += parts[p].sum[query] * exp(parts[p].largest[query] - most);
    }
    for (std::size_t p = 0; p < count; ++p) {
        const Lanes share = all_lanes(exp(parts[p].largest[query] - most) / sum);
        const float* values = parts[p].values + query * parts[p].value_stride;
        for (std::size_t i = 0; i < latent; i += kLanes) {
            const std::size_t here = latent - i < kLanes ? latent - i : kLanes;
            const Lanes before = p ? load_first(out + i, here) : no_lanes();
            store_first(fma(load(values + i), share, before), out + i, here);
        }
    }
}

}  // namespace hybrid::HYBRID_TIER
