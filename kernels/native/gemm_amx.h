// Many tokens by the tile unit's byte products. Slabs hold signed bytes; weights are exact.
//
// Formats of 256 weights: number times scale is an integer of less than 15 bits, taken as two
// planes, 128 * high + low, so that a whole block is summed inside the unit and its sums become
// floats once. Formats of 32 weights scale by floats: their sums leave the unit every 32 columns.
// Either way sums go through memory, and those of one step are turned into floats between the
// products of the next, since tiles and vectors have their own execution units.
#pragma once

#include "amx_tiles.h"
#include "gemm_vnni.h"

namespace hybrid::HYBRID_TIER {

using TileSums = std::int32_t[16][16];

// A block of 256 columns of all rows of a slab.
struct alignas(64) SlabPlanes {
    std::int8_t high[kSlabRows][kRun], low[kSlabRows][kRun];
    std::int32_t minimum[kSlabRows][8];  // as in SlabRun256
    float factor[kSlabRows], minimum_factor[kSlabRows];
};

inline __m512i bytes_of(const Bytes& numbers) {
    return numbers;
}
inline __m512i bytes_of(const Signed& numbers) {
    return flip(numbers.magnitude, numbers.negative);
}

// 32 numbers, less their offset, times the two scales from `first` on.
template <class Block>
__m512i scaled_words(__m256i bytes, const Scales& scales, int first) {
    const __m512i number = kIsSigned<Block> ? _mm512_cvtepi8_epi16(bytes)
                                            : _mm512_sub_epi16(_mm512_cvtepu8_epi16(bytes),
                                                               _mm512_set1_epi16(Block::kOffset));
    const __m512i index =
        _mm512_add_epi16(_mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(1), 1),
                         _mm512_set1_epi16(static_cast<short>(first)));
    return _mm512_mullo_epi16(number,
                              _mm512_permutexvar_epi16(index, _mm512_castsi256_si512(scales)));
}

// 64 words as bytes; all fit.
inline __m512i narrowed(__m512i first, __m512i last) {
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0),
                                    _mm512_packs_epi16(first, last));
}

template <class Block>
void unpack_planes(const Block* block, int row, SlabPlanes& out) {
    const Scales scales = block->scale_numbers();
    const __m512i low_bits = _mm512_set1_epi16(127);
    for (int quarter = 0; quarter < 4; ++quarter) {
        const __m512i numbers = bytes_of(block->numbers(quarter));
        const __m512i first =
            scaled_words<Block>(_mm512_castsi512_si256(numbers), scales, 4 * quarter);
        const __m512i last =
            scaled_words<Block>(_mm512_extracti64x4_epi64(numbers, 1), scales, 4 * quarter + 2);
        store_bytes(narrowed(_mm512_srai_epi16(first, 7), _mm512_srai_epi16(last, 7)),
                    out.high[row] + 64 * quarter);
        store_bytes(narrowed(_mm512_and_si512(first, low_bits), _mm512_and_si512(last, low_bits)),
                    out.low[row] + 64 * quarter);
    }
    out.factor[row] = block->factor();
    if constexpr (requires_minimum<Block>(0)) {
        put_minimums(*block, out.minimum[row]);
        out.minimum_factor[row] = block->minimum_factor();
    }
}

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

// One block of 256 columns: four steps of 64 through the unit.
template <class Block>
struct PlaneSteps {
    using Run = SlabPlanes;
    using Packed = Packed256;
    using Unit = TileUnit<64>;
    using Sums = TileSums[4];  // high and low of the first tile, then of the second

    static int parts(int) { return 1; }

    static void unpack(const Block* block, std::size_t, int row, Run& out) {
        unpack_planes(block, row, out);
    }

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
                if constexpr (requires_minimum<Block>(0)) {
                    value = less_minimums(*step.slab, step.row + r, *step.x[t], value);
                }
                _mm512_store_ps(step.sums(r, t),
                                _mm512_fmadd_ps(value, _mm512_load_ps(step.x[t]->scale),
                                                _mm512_load_ps(step.sums(r, t))));
            }
        }
    }

    static __m512 less_minimums(const Run& slab, int row, const Packed& x, __m512 value) {
        const __m512i sums = times_sums<kGroup<Block>>(slab.minimum[row], x);
        return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(slab.minimum_factor[row]),
                                value);
    }
};

// 128 columns: four blocks of 32.
template <class Block>
struct GroupSteps {
    using Run = SlabRun32s;
    using Packed = Packed32s;
    using Unit = TileUnit<32>;
    using Sums = TileSums[8];  // of each block the first tile's and the second's

    static int parts(int groups) { return (groups + 3) / 4; }

    static void unpack(const Block* block, std::size_t columns, int row, Run& out) {
        unpack_row<Block, Block::kOffset>(block, columns, row, out);
    }

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
                if constexpr (requires_minimums<Block>(0)) {
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

template <class Block, class Steps, class Rounded>
struct TileProduct {
    using Packed = typename Steps::Packed;
    using Slab = typename Steps::Run;
    using Unit = typename Steps::Unit;
    static constexpr std::size_t kPackedColumns = kRun, kColumns = kRun;

    static void pack(const Tokens& x, int tile, Packed* packed) {
        pack_tile<Rounded>(x, tile, packed);
    }

    static void unpack(const Rows& rows, std::size_t first, int count, std::size_t column,
                       Slab& slab) {
        for (int r = 0; r < count; ++r) {
            const Block* block =
                blocks_at<Block>(rows, first + static_cast<std::size_t>(r), column);
            Steps::unpack(block, rows.columns - column, r, slab);
        }
    }

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

template <class Block>
using SuperTiles = TileProduct<Block, PlaneSteps<Block>, RunOf256>;
template <class Block>
using SmallTiles = TileProduct<Block, GroupSteps<Block>, RunOf32s>;

}  // namespace hybrid::HYBRID_TIER
