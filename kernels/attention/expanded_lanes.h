// Attention of a prompt's queries, one head at a time, over keys and values unfolded for each head.
//
// clang-format off
//     keys ─ 64, transposed ─► [nope + rope][64] ─┐      values ─ 64 ─► [64][value] ─┐
//     six queries ────────────────────────────────┴► scores [6][64] ─► softmax ─► weights · ─┘
// clang-format on
//
// Both products broadcast one number of the left side to a register and multiply it with a row of
// the right side. Packing the tiles is repaid by all queries of the call, and it keeps rows that
// lie a power of two apart in memory from falling into the same few sets of the cache.
#pragma once

#include "../attention/softmax_lanes.h"
#include "block_product.h"
#include "tier.h"

namespace hybrid::HYBRID_TIER {

struct ExpandedScratch {
    float* keys;     // [key_row][kKeyTile], transposed
    float* values;   // [kKeyTile][value_row]
    float* queries;  // [queries][key_row], times scale
    float* sums;     // [queries][value_row]
    float* scores;   // [kProductRows][kKeyTile]
    std::size_t key_row, value_row;
    Running running;
};

inline ExpandedScratch expanded_parts(const ExpandedAttention& a, std::size_t queries,
                                      float* scratch) {
    ExpandedScratch made{};
    const std::size_t padded = whole(queries, kValueRow);
    made.key_row = whole(a.nope_length + a.rope_length, kValueRow);
    made.value_row = whole(a.value_length, kValueRow);
    made.keys = scratch;
    made.values = made.keys + kKeyTile * (made.key_row + kValueRow);
    made.queries = made.values + kKeyTile * made.value_row;
    made.sums = made.queries + padded * made.key_row;
    made.scores = made.sums + padded * made.value_row;
    float* kept = made.scores + kValueRow * kKeyTile;
    float* largest = kept + 2 * kValueRow;
    made.running = {largest, largest + padded, kept, kept + kValueRow};
    return made;
}

// out[c][r] = rows[r][c], rows `count` <= kKeyTile and then zeros.
inline void pack_transposed(const float* rows, std::size_t stride, std::size_t length,
                            std::size_t count, float* out) {
    for (std::size_t c = 0; c < length; c += kLanes) {
        const std::size_t here = length - c < kLanes ? length - c : kLanes;
        for (std::size_t r = 0; r < kKeyTile; r += kLanes) {
            Lanes block[kLanes];
            for (std::size_t i = 0; i < kLanes; ++i) {
                const bool inside = r + i < count;
                block[i] = inside ? load_first(rows + (r + i) * stride + c, here) : no_lanes();
            }
            transpose(block);
            for (std::size_t i = 0; i < kLanes; ++i) store(block[i], out + (c + i) * kKeyTile + r);
        }
    }
}

inline void pack_row(const float* x, std::size_t length, float scale, float* out) {
    for (std::size_t i = 0; i < length; i += kLanes) {
        const std::size_t here = length - i < kLanes ? length - i : kLanes;
        store(multiply(load_first(x + i, here), all_lanes(scale)), out + i);
    }
}

inline void scale_out(const float* x, std::size_t length, float scale, float* out) {
    for (std::size_t i = 0; i < length; i += kLanes) {
        const std::size_t here = length - i < kLanes ? length - i : kLanes;
        store_first(multiply(load(x + i), all_lanes(scale)), out + i, here);
    }
}

inline void pack_tile(const ExpandedAttention& a, std::size_t head, std::size_t first,
                      std::size_t count, const ExpandedScratch& scratch) {
    pack_transposed(a.key + first * a.key_row + head * a.key_head, a.key_row, a.nope_length, count,
                    scratch.keys);
    pack_transposed(a.key_rope + first * a.key_rope_row, a.key_rope_row, a.rope_length, count,
                    scratch.keys + a.nope_length * kKeyTile);
    const float* values = a.value + first * a.value_row + head * a.value_head;
    for (std::size_t r = 0; r < count; ++r) {
        pack_row(values + r * a.value_row, a.value_length, 1.0f,
                 scratch.values + r * scratch.value_row);
    }
}

// Queries query .. query + rows - 1 of the call, the first of them at `position`, against the tile
// of `count` keys that follows `seen_before` others.
inline void attend_tile(const ExpandedAttention& a, const ExpandedScratch& s, std::size_t query,
                        std::size_t rows, std::size_t seen_before, std::size_t count,
                        std::size_t position) {
    const auto visible = [=](std::size_t row) {
        const std::size_t end = position + row + 1;
        const std::size_t here = end > seen_before ? end - seen_before : 0;
        return here < count ? here : count;
    };
    const std::size_t most = visible(rows - 1), padded = whole(most, kLanes);
    if (most == 0) return;
    const std::size_t key_length = a.nope_length + a.rope_length;
    product<false>({s.queries + query * s.key_row, s.key_row, s.keys, kKeyTile, s.scores, kKeyTile,
                    key_length, nullptr},
                   rows, padded);
    const Running running{s.running.largest + query, s.running.sum + query, s.running.kept,
                          s.running.added};
    for (std::size_t row = 0; row < rows; ++row) {
        weigh(s.scores + row * kKeyTile, padded, visible(row), running, row);
    }
    add_weights(running, rows);
    product<true>({s.scores, kKeyTile, s.values, s.value_row, s.sums + query * s.value_row,
                   s.value_row, most, running.kept},
                  rows, a.value_length);
}

inline void expanded_attention(const ExpandedAttention& a, std::size_t head, std::size_t begin,
                               std::size_t end, float* scratch) {
    const std::size_t queries = end - begin, seen = a.start + end;
    const ExpandedScratch s = expanded_parts(a, queries, scratch);
    for (std::size_t i = 0; i < queries; ++i) {
        pack_row(a.q + (begin + i) * a.q_token + head * a.q_head, a.nope_length + a.rope_length,
                 a.scale, s.queries + i * s.key_row);
    }
    std::memset(s.sums, 0, queries * s.value_row * sizeof(float));
    start_running(s.running, queries);
    for (std::size_t first = 0; first < seen; first += kKeyTile) {
        const std::size_t count = seen - first < kKeyTile ? seen - first : kKeyTile;
        pack_tile(a, head, first, count, s);
        for (std::size_t i = 0; i < queries;) {
            const std::size_t rows = group_of(queries - i);
            attend_tile(a, s, i, rows, first, count, a.start + begin + i);
            i += rows;
        }
    }
    for (std::size_t i = 0; i < queries; ++i) {
        float* out = a.out + (begin + i) * a.out_token + head * a.out_head;
        scale_out(s.sums + i * s.value_row, a.value_length, 1.0f / s.running.sum[i], out);
    }
}

}  // namespace hybrid::HYBRID_TIER
