// Many tokens by the tile unit's byte products. Slabs hold signed bytes; weights are exact.
//
// Formats of 256 weights: number times scale is an integer of less than 15 bits, taken as two
// planes, 128 * high + low, so that a whole block is summed inside the unit and its sums become
// floats once. Formats of 32 weights scale by floats: their sums leave the unit every 32 columns.
// Either way sums go through memory, and those of one step are turned into floats between the
// products of the next, since tiles and vectors have their own execution units.
#pragma once

#include "amx_tiles.h"
#include "gemm_planes.h"
#include "gemm_vnni.h"

namespace hybrid::HYBRID_TIER {

using TileSums = std::int32_t[16][16];

// Sixteen rows times kTiles tiles of tokens: one step's operands, and where its sums belong.
template <class Run, class PackedRun, int kTiles>
struct TileStep {
    const Run* slab;
    int row;
    const PackedRun* x[kTiles];
    SlabSums* out;
    int tile;  // of `out`, the first
    int part;  // of the run

    float* sums(int r, int t) const { return out->of[tile + t][row + r]; }
};

// One block of 256 columns: four steps of 64 through the unit. Its minimums are each of
// kMinimumWidth weights, 0: there are none.
template <int kMinimumWidth>
struct PlaneSteps {
    using Run = SlabPlanes;
    using Packed = Packed256;
    using Unit = TileUnit<64>;
    using Sums = TileSums[4];  // high and low of the first tile, then of the second

    static int parts(int) { return 1; }

    template <int kTiles>
    static void start() {
        zero_tile<0>(), zero_tile<1>();
        if constexpr (kTiles == 2) zero_tile<2>(), zero_tile<3>();
    }

    template <int kTiles, int kQuarter>
    static void multiply(const TileStep<Run, Packed, kTiles>& step, Sums&) {
        load_tile<4>(step.slab->high[step.row] + 64 * kQuarter, kRun);
        load_tile<6>(step.x[0]->number[16 * kQuarter], 64);
        add_byte_products<0, 4, 6>();
        load_tile<5>(step.slab->low[step.row] + 64 * kQuarter, kRun);
        add_byte_products<1, 5, 6>();
        if constexpr (kTiles == 2) {
            load_tile<7>(step.x[1]->number[16 * kQuarter], 64);
            add_byte_products<2, 4, 7>();
            add_byte_products<3, 5, 7>();
        }
    }

    template <int kTiles>
    static void finish(Sums& sums) {
        store_tile<0>(sums[0], 64), store_tile<1>(sums[1], 64);
        if constexpr (kTiles == 2) store_tile<2>(sums[2], 64), store_tile<3>(sums[3], 64);
    }

    // Rows 4 * quarter .. + 3 of a step before.
    template <int kTiles>
    static void fold(const TileStep<Run, Packed, kTiles>& step, const Sums& sums, int quarter) {
        for (int r = 4 * quarter; r < 4 * quarter + 4; ++r) {
            const __m512 factor = _mm512_set1_ps(step.slab->factor[step.row + r]);
            for (int t = 0; t < kTiles; ++t) {
                const __m512i whole =
                    _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(sums[2 * t][r]), 7),
                                     _mm512_load_si512(sums[2 * t + 1][r]));
                __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), factor);
                if constexpr (kMinimumWidth != 0) {
                    value = less_minimums(*step.slab, step.row + r, *step.x[t], value);
                }
                _mm512_store_ps(step.sums(r, t),
                                _mm512_fmadd_ps(value, _mm512_load_ps(step.x[t]->scale),
                                                _mm512_load_ps(step.sums(r, t))));
            }
        }
    }

    static __m512 less_minimums(const Run& slab, int row, const Packed& x, __m512 value) {
        const __m512i sums = times_sums<kMinimumWidth>(slab.minimum[row], x);
        return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(slab.minimum_factor[row]),
                                value);
    }
};

// 128 columns: four blocks of 32.
template <bool kMinimums>
struct GroupSteps {
    using Run = SlabRun32s;
    using Packed = Packed32s;
    using Unit = TileUnit<32>;
    using Sums = TileSums[8];  // of each block the first tile's and the second's

    static int parts(int groups) { return (groups + 3) / 4; }

    template <int kTiles>
    static void start() {}

    template <int kTiles, int kQuarter>
    static void multiply(const TileStep<Run, Packed, kTiles>& step, Sums& sums) {
        constexpr int kFirst = 2 * (kQuarter % 2), kWeights = 4 + kQuarter % 2;
        const int group = 4 * step.part + kQuarter;
        zero_tile<kFirst>();
        load_tile<kWeights>(step.slab->number[step.row] + 32 * group, kRun);
        load_tile<6>(step.x[0]->number[8 * group], 64);
        add_byte_products<kFirst, kWeights, 6>();
        if constexpr (kTiles == 2) {
            zero_tile<kFirst + 1>();
            load_tile<7>(step.x[1]->number[8 * group], 64);
            add_byte_products<kFirst + 1, kWeights, 7>();
            store_tile<kFirst + 1>(sums[2 * kQuarter + 1], 64);
        }
        store_tile<kFirst>(sums[2 * kQuarter], 64);
    }

    template <int kTiles>
    static void finish(Sums&) {}

    template <int kTiles>
    static void fold(const TileStep<Run, Packed, kTiles>& step, const Sums& sums, int quarter) {
        const int first = 4 * quarter;
        for (int t = 0; t < kTiles; ++t) {
            __m512 y[4];
            for (int r = 0; r < 4; ++r) y[r] = _mm512_load_ps(step.sums(first + r, t));
            for (int g = 0; g < 4; ++g) {
                const int group = 4 * step.part + g, row = step.row + first;
                const __m512 scale = _mm512_load_ps(step.x[t]->scale[group]);
                for (int r = 0; r < 4; ++r) {
                    const __m512 by =
                        _mm512_mul_ps(scale, _mm512_set1_ps(step.slab->scale[row + r][group]));
                    const __m512i sum = _mm512_load_si512(sums[2 * g + t][first + r]);
                    y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), by, y[r]);
                }
                if constexpr (kMinimums) {
                    const __m512 sum = scaled_sums(*step.x[t], group);
                    for (int r = 0; r < 4; ++r) {
                        const __m512 minimum = _mm512_set1_ps(step.slab->minimum[row + r][group]);
                        y[r] = _mm512_fmadd_ps(minimum, sum, y[r]);
                    }
                }
            }
            for (int r = 0; r < 4; ++r) _mm512_store_ps(step.sums(first + r, t), y[r]);
        }
    }
};

// A slab's steps with kTiles tiles at a time, each folded between the products of the next.
template <class Steps, int kTiles>
struct StepRow {
    using Run = typename Steps::Run;
    using Packed = typename Steps::Packed;
    using Step = TileStep<Run, Packed, kTiles>;
    alignas(64) typename Steps::Sums sums[2];
    Step before;
    int steps = 0;

    template <int kQuarter>
    void quarter(const Step& step) {
        Steps::template multiply<kTiles, kQuarter>(step, sums[steps % 2]);
        if (steps) Steps::template fold<kTiles>(before, sums[(steps + 1) % 2], kQuarter);
    }

    void add(const Step& step) {
        Steps::template start<kTiles>();
        quarter<0>(step);
        quarter<1>(step);
        quarter<2>(step);
        quarter<3>(step);
        Steps::template finish<kTiles>(sums[steps % 2]);
        before = step;
        ++steps;
    }

    void run(const Run& slab, int count, int parts, const Batch<Packed>& batch, int tile,
             SlabSums& out) {
        for (int row = 0; row < count; row += 16) {
            for (int part = 0; part < parts; ++part) {
                Step step{&slab, row, {}, &out, tile, part};
                for (int t = 0; t < kTiles; ++t) step.x[t] = batch.of(tile + t);
                add(step);
            }
        }
    }

    void finish() {
        for (int q = 0; q < 4; ++q) {
            Steps::template fold<kTiles>(before, sums[(steps + 1) % 2], q);
        }
    }
};

template <class Steps>
struct TileProducts {
    using Packed = typename Steps::Packed;
    using Slab = typename Steps::Run;
    using Unit = typename Steps::Unit;
    static constexpr std::size_t kPackedColumns = kRun, kColumns = kRun;

    static void multiply(const Slab& slab, std::size_t columns, int count,
                         const Batch<Packed>& batch, Fetch& fetch, SlabSums& sums) {
        const int parts = Steps::parts(static_cast<int>(columns / 32));
        int tile = 0;
        if (batch.tiles >= 2) {
            StepRow<Steps, 2> pairs;
            for (; tile + 2 <= batch.tiles; tile += 2) {
                pairs.run(slab, count, parts, batch, tile, sums);
                fetch.beside(kSlabRows / 2);
            }
            pairs.finish();
        }
        if (tile < batch.tiles) {
            StepRow<Steps, 1> last;
            last.run(slab, count, parts, batch, tile, sums);
            last.finish();
            fetch.beside(kSlabRows / 2);
        }
    }
};

template <class Block, class Run, class Products>
struct TileProduct : Products {
    static void pack(const Tokens& x, int tile, typename Products::Packed* packed) {
        pack_tile<Run>(x, tile, packed);
    }

    static void unpack(const Rows& rows, std::size_t first, int count, std::size_t column,
                       typename Products::Slab& slab) {
        for (int r = 0; r < count; ++r) {
            const Block* block =
                blocks_at<Block>(rows, first + static_cast<std::size_t>(r), column);
            if constexpr (Block::kWeights == 256) {
                unpack_planes(block, r, slab);
            } else {
                unpack_row<Block, Block::kOffset>(block, rows.columns - column, r, slab);
            }
        }
    }
};

template <class Block>
using SuperTiles =
    TileProduct<Block, RunOf256,
                TileProducts<PlaneSteps<requires_minimum<Block>(0) ? kGroup<Block> : 0>>>;
template <class Block>
using SmallTiles =
    TileProduct<Block, RunOf32s, TileProducts<GroupSteps<requires_minimums<Block>(0)>>>;

}  // namespace hybrid::HYBRID_TIER
