// How split_hopper.cu brings a block's queries into shared memory, rounded to the rows' type.
#pragma once

#include "attention/split_hopper.h"

namespace hybrid {

// Four columns of a head's query where its product expects them.
DEVICE void put_four(const SplitShared& shared, int row, int column, uint32_t low, uint32_t high) {
    const int in_16 = column % 8 * 2, eighth = column / 8;
    const uint32_t held = shared.queries + row * kQueryPitch + column * 2;
    const uint32_t narrow =
        shared.narrow_queries + row * 32 + (eighth % 2 ^ row / 4 % 2) * 16 + in_16;
    const uint32_t boxed = shared.boxed_queries + row * 128 + (eighth % 8 ^ row % 8) * 16 + in_16;
    const bool is_held = column < kHeldColumns, is_narrow = column < kBoxedColumns;
    store_two_words(is_held ? held : is_narrow ? narrow : boxed, low, high);
}

// Two heads' queries, which are 9 loads of a warp, as rows of Kind. float16 rows are scaled so that
// their greatest value is 4096: absorbed queries may be beyond its range, and what is 2^26 times
// smaller is still a normal number.
template <bool BFLOAT>
DEVICE void put_two_heads(const SplitRecord& record, const SplitShared& shared, int head,
                          const float4 (&four)[kQueryLoads]) {
    const int lane = lane_index();
    float factor[2] = {1, 1}, unit[2] = {1, 1};
    if (!BFLOAT) {
        float most[2] = {0, 0};
#pragma unroll
        for (int j = 0; j < kQueryLoads; ++j) {
            const float4& x = four[j];
            const float here = max(max(fabsf(x.x), fabsf(x.y)), max(fabsf(x.z), fabsf(x.w)));
            const bool second = j * kWarp + lane >= kColumns / 4;
            most[0] = max(most[0], second ? 0.0f : here);
            most[1] = max(most[1], second ? here : 0.0f);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            most[i] = warp_max(most[i]);
            if (most[i] > 0) factor[i] = 4096 / most[i], unit[i] = most[i] * (1.0f / 4096);
        }
    }
    if (lane < 2) {
        store_float(shared.to_base_2 + 4 * (head + lane),
                    record.scale * 1.4426950408889634f * (lane ? unit[1] : unit[0]));
    }
#pragma unroll
    for (int j = 0; j < kQueryLoads; ++j) {
        const int at = j * kWarp + lane, second = at >= kColumns / 4;
        const float by = second ? factor[1] : factor[0];
        const float4& x = four[j];
        put_four(shared, head + second, at * 4 - second * kColumns,
                 pack_pair<BFLOAT>(x.x * by, x.y * by), pack_pair<BFLOAT>(x.z * by, x.w * by));
    }
}

// The float32 queries of the block's heads, by all warps. The copy engine brings one half of the
// heads while the other is loaded into registers.
template <bool BFLOAT>
DEVICE void put_queries(const SplitRecord& record, const SplitShared& shared, int token) {
    constexpr int kHalf = kHeads / 2, kEach = (kHalf / 2 + kWarps - 1) / kWarps;
    const int lane = lane_index(), warp = warp_index();
    const int real = record.heads - blockIdx.x * kHeads;
    const float* queries = first_query(record, token);
    if (threadIdx.x == 0 && real > kHalf) {
        const int nbytes = min(real - kHalf, kHalf) * kColumns * 4;
        arrive_and_expect(shared.fetched, nbytes);
        copy_bytes(shared.staged, queries + kHalf * kColumns, nbytes, shared.fetched);
    }
    float4 four[kEach][kQueryLoads];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
        const int head = (warp + i * kWarps) * 2;
#pragma unroll
        for (int j = 0; j < kQueryLoads; ++j) {
            const int at = j * kWarp + lane;
            const bool known = warp + i * kWarps < kHalf / 2 && head + (at >= kColumns / 4) < real;
            four[i][j] = known ? reinterpret_cast<const float4*>(queries + head * kColumns)[at]
                               : make_float4(0, 0, 0, 0);
        }
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
        const int head = (warp + i * kWarps) * 2;
        if (warp + i * kWarps < kHalf / 2) put_two_heads<BFLOAT>(record, shared, head, four[i]);
    }
    if (real > kHalf) wait_for_phase(shared.fetched, 0);
    // Warps that loaded two heads more than others come last here.
#pragma unroll 1
    for (int pair = (warp + 2 * kWarps - kHalf / 2) % kWarps; pair < kHalf / 2; pair += kWarps) {
#pragma unroll
        for (int j = 0; j < kQueryLoads; ++j) {
            const int at = j * kWarp + lane;
            const bool known = kHalf + 2 * pair + (at >= kColumns / 4) < real;
            const uint4 words = load_words(shared.staged + pair * 2 * kColumns * 4 + at * 16);
            four[0][j] = known ? make_float4(bits_float(words.x), bits_float(words.y),
                                             bits_float(words.z), bits_float(words.w))
                               : make_float4(0, 0, 0, 0);
        }
        put_two_heads<BFLOAT>(record, shared, kHalf + 2 * pair, four[0]);
    }
}

}  // namespace hybrid
