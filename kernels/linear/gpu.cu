// out[t] (+)= W x̂[t] for few tokens and up to three matrices that share x: memory-bound.
//
// The grid just fills the GPU, and each block has a stretch of rows. A warp takes kRows of them
// (more where rows are short and less than a warp shares one) and goes on to others when it is
// done; where a block has fewer than its warps, several share them (rows.h). A step's loads are
// issued as soon as the registers of the step before are free, and those of the first step before
// the previous kernel has ended: weights do not depend on it. Then the block rounds x once into
// shared memory. Of formats with few bits a lane reads 64 weights at once where there is one token,
// of TQ1_0 256 (planar/pairs.h).
#include "linear/rows.h"
#include "planar/activations_one.h"
#include "planar/formats.h"

namespace hybrid {

constexpr int kMostProducts = 3;

struct Product {
    Matrix weight;
    float* out;           // [tokens, weight.rows]
    int32_t add;          // out += instead of out =
    int32_t format;       // which of the kernel's
    int32_t lane_bits;    // 2^lane_bits lanes of a warp share a row, kRows kTokens or more
    int32_t warp_bits;    // and 2^warp_bits warps; if above 0, none has more than one tile
    int32_t first_block;  // its blocks of the grid
    int32_t blocks;
};

// Mirrored by MatvecRecord in gpu.py. Grid: blocks of all products, groups of kTokens tokens.
struct MatvecRecord {
    Product products[kMostProducts];
    const float* x;     // [tokens, columns], aligned to 16 bytes
    const float* norm;  // [columns] or null
    float epsilon;
    int32_t columns, tokens, count;
};

// Whether a lane takes neighbours of 32 weights at once.
template <class Format, int kTokens>
constexpr bool kPaired = kTokens == 1 && Pairs<Format>::kGroups > 1;

template <class Format, int kTokens>
constexpr int kUnitOf = kPaired<Format, kTokens> ? 32 * Pairs<Format>::kGroups : Format::kUnit;

// Steps of a row under way at once.
template <class Format, int kTokens>
constexpr int kUnits = kPaired<Format, kTokens> ? Pairs<Format>::kSteps
                       : kTokens == 1           ? Format::kSteps
                       : kTokens == 8           ? 2
                       : Format::kFloat         ? 4
                                                : 2;

// What registers allow: MOST_THREADS of gpu.py.
template <int kTokens>
constexpr int kMostThreads = kTokens == 8 ? 448 : 512;

template <class Format, int kTokens>
using Rows = RowsOfTile<Format, kPaired<Format, kTokens>>;
template <class Format, int kTokens>
using Words = typename Rows<Format, kTokens>::Raw[kUnits<Format, kTokens>][kRows];

// Unit u of a step, of each row.
template <class Format, int kTokens>
DEVICE void load_unit(const Rows<Format, kTokens>& rows, const Share& share, int unit, int units,
                      int u, Words<Format, kTokens>& words) {
    const int at = min(unit + u * share.all_lanes + share.place, units - 1);
#pragma unroll
    for (int r = 0; r < kRows; ++r) words[u][r] = rows.read(r, at);
}

template <class Format, int kTokens>
DEVICE void add_unit(const Words<Format, kTokens>& words, int u, int at, int columns,
                     unsigned char* shared, const unsigned char* book,
                     float (&sums)[kRows * kTokens]) {
    if constexpr (Format::kFloat) {
        float weights[kRows][Format::kUnit];
#pragma unroll
        for (int r = 0; r < kRows; ++r) Format::decode(words[u][r], weights[r]);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
            const float* x = floats_of(shared, columns, t) + at * Format::kUnit;
#pragma unroll
            for (int i = 0; i < Format::kUnit; ++i) {
#pragma unroll
                for (int r = 0; r < kRows; ++r) sums[r * kTokens + t] += weights[r][i] * x[i];
            }
        }
    } else if constexpr (kPaired<Format, kTokens>) {
        // Behind the row's end nothing is added, without a branch.
        const int last = columns / kUnitOf<Format, kTokens> - 1;
        const Rounded of_x(shared, columns, 0, Pairs<Format>::kGroups);
        const auto group_of_x = [&](int which) {
            RoundedGroup x = of_x.group(min(at, last) + which * of_x.apart);
            x.scale = at <= last ? x.scale : 0.0f;
            return x;
        };
        Pairs<Format>::add(words[u], Pairs<Format>::kGroups * min(at, last), group_of_x, book,
                           sums);
    } else if constexpr (kTokens == 1) {
        const int last = columns / 32 - 1;
        RoundedGroup x = Rounded(shared, columns, 0).group(min(at, last));
        x.scale = at <= last ? x.scale : 0.0f;
#pragma unroll
        for (int r = 0; r < kRows; ++r)
            sums[r] += dot_booked<Format>(words[u][r], min(at, last), x, book);
    } else {
        Codes codes[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) codes[r] = Format::decode(words[u][r], at);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
            const RoundedGroup x = Rounded(shared, columns, t).group(at);
#pragma unroll
            for (int r = 0; r < kRows; ++r) sums[r * kTokens + t] += dot32<Format>(codes[r], x);
        }
    }
}

// Sums over the lanes of a row. Each step halves what a lane holds: it keeps one half and is given
// the same half of its partner; at last it holds the value of number lane * kValues / lanes.
template <int kValues>
DEVICE float sum_over_lanes(float (&values)[kValues], const Share& share) {
    int apart = share.lanes() / 2;
#pragma unroll
    for (int held = kValues / 2; held > 0; held /= 2, apart /= 2) {
        const bool upper = (share.lane() & apart) != 0;
#pragma unroll
        for (int i = 0; i < held; ++i) {
            const float given = upper ? values[i] : values[i + held];
            values[i] = (upper ? values[i + held] : values[i]) + shuffle_xor(given, apart);
        }
    }
    for (; apart > 0; apart /= 2) values[0] += shuffle_xor(values[0], apart);
    return values[0];
}

// What sum_over_lanes gave.
template <int kTokens>
DEVICE void store_rows(const Product& product, const Share& share, int tile, int first_token,
                       int tokens, float sum) {
    constexpr int kValues = kRows * kTokens;
    const int each = share.lanes() / kValues, value = share.lane() * kValues >> share.bits;
    const int row = share.row(tile, value / kTokens), token = value % kTokens;
    if ((share.lane() & (each - 1)) != 0 || row >= product.weight.rows || token >= tokens) return;
    float* out = product.out + static_cast<int64_t>(first_token + token) * product.weight.rows;
    out[row] = product.add ? out[row] + sum : sum;
}

// The same where several warps share the rows of a tile. All threads of the block call it.
template <int kTokens>
DEVICE void store_shared_rows(const Product& product, const Share& share, bool has_tile, int tile,
                              int first_token, int tokens, float sum) {
    __shared__ float parts[kMostThreads<kTokens>];
    parts[threadIdx.x] = sum;
    __syncthreads();
    const int warps = 1 << share.warp_bits;
    if (!has_tile || (warp_index() & (warps - 1)) != 0) return;
    for (int warp = 1; warp < warps; ++warp) sum += parts[threadIdx.x + warp * kWarp];
    store_rows<kTokens>(product, share, tile, first_token, tokens, sum);
}

// Where the stretch of number `block` begins, of `blocks` about equal ones.
DEVICE int of_blocks(int tiles, int block, int blocks) {
    return static_cast<int>(static_cast<uint32_t>(tiles) * static_cast<uint32_t>(block) /
                            static_cast<uint32_t>(blocks));
}

template <class Format, int kTokens>
DEVICE void multiply(const MatvecRecord& record, const Product& product, unsigned char* shared) {
    const Share share(product.lane_bits, kTokens == 1 ? product.warp_bits : 0);
    constexpr int kUnit = kUnitOf<Format, kTokens>;
    const int columns = record.columns, units = (columns + kUnit - 1) / kUnit;
    const int step = share.all_lanes * kUnits<Format, kTokens>;
    const int tiles = (product.weight.rows + share.rows_of_warp() - 1) / share.rows_of_warp();
    const int block = static_cast<int>(blockIdx.x) - product.first_block;
    const int tiles_end = of_blocks(tiles, block + 1, product.blocks);
    const int first_token = static_cast<int>(blockIdx.y) * kTokens;
    const int tokens = min(kTokens, record.tokens - first_token);
    int tile = of_blocks(tiles, block, product.blocks) + share.team(), unit = 0;
    Words<Format, kTokens> words;
    Rows<Format, kTokens> rows(product.weight);
    rows.find(product.weight, share, tile);
    const auto load_units = [&](int from) {
#pragma unroll
        for (int u = 0; u < kUnits<Format, kTokens>; ++u)
            load_unit<Format, kTokens>(rows, share, from, units, u, words);
    };
    load_units(0);
    RowAhead ahead;
    const unsigned char* const book = shared;
    if constexpr (kTokens == 1 && !Format::kFloat) {
        ahead.load_norm(record.norm, columns);
        if constexpr (Format::kBookBytes > 0) Format::fill_book(shared);
        shared += Format::kBookBytes;
    }

    wait_for_previous();
    // Not by first_token and columns: Q3_K would have a register too few on sm_120.
    const float* x = record.x + static_cast<int64_t>(blockIdx.y * kTokens) * record.columns;
    if constexpr (Format::kFloat) {
        copy_into<kTokens>(shared, x, columns, tokens, record.norm, record.epsilon);
    } else if constexpr (kTokens == 1) {
        ahead.load_x(x, columns);
        round_one(shared, x, columns, record.norm, record.epsilon, ahead,
                  kUnitOf<Format, kTokens> / 32);
    } else {
        round_into<kTokens>(shared, x, columns, tokens, record.norm, record.epsilon);
    }

    float sums[kRows * kTokens] = {};
    while (tile < tiles_end) {
        const bool ends = unit + step >= units;
        const int next_tile = ends ? tile + share.teams() : tile;
        const int next_unit = ends ? 0 : unit + step;
        if (ends && next_tile < tiles_end) rows.find(product.weight, share, next_tile);
#pragma unroll
        for (int u = 0; u < kUnits<Format, kTokens>; ++u) {
            const int at = unit + u * share.all_lanes + share.place;
            if ((kTokens == 1 && !Format::kFloat) || at < units)
                add_unit<Format, kTokens>(words, u, at, columns, shared, book, sums);
            if constexpr (kTokens == 1)
                if (next_tile < tiles_end)
                    load_unit<Format, kTokens>(rows, share, next_unit, units, u, words);
        }
        // With more tokens registers do not hold a unit's numbers beside loads under way.
        if constexpr (kTokens > 1)
            if (next_tile < tiles_end) load_units(next_unit);
        if (ends && share.warp_bits == 0) {
            store_rows<kTokens>(product, share, tile, first_token, tokens,
                                sum_over_lanes(sums, share));
#pragma unroll
            for (float& sum : sums) sum = 0.0f;
        }
        tile = next_tile;
        unit = next_unit;
    }
    if constexpr (kTokens == 1) {
        if (share.warp_bits == 0) return;
        const int own = of_blocks(tiles, block, product.blocks) + share.team();
        store_shared_rows<kTokens>(product, share, own < tiles_end, own, first_token, tokens,
                                   sum_over_lanes(sums, share));
    }
}

template <int kTokens, class First, class... Others>
DEVICE void multiply_any(const MatvecRecord& record, const Product& product, int format,
                         unsigned char* shared) {
    if constexpr (sizeof...(Others) > 0) {
        if (format > 0)
            return multiply_any<kTokens, Others...>(record, product, format - 1, shared);
    }
    multiply<First, kTokens>(record, product, shared);
}

template <int kTokens, class... Formats>
__global__ void __launch_bounds__(kMostThreads<kTokens>, 1) matvec(const MatvecRecord record) {
    DYNAMIC_SHARED(unsigned char, shared);
    let_next_start();
    int which = 0;
    while (which + 1 < record.count &&
           static_cast<int>(blockIdx.x) >= record.products[which + 1].first_block)
        ++which;
    const Product product = record.products[which];
    multiply_any<kTokens, Formats...>(record, product, product.format, shared);
}

}  // namespace hybrid
