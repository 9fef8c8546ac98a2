// expert_down of one token: the weights of a warp's rows stream through its registers.
//
// The loads of a row of all experts here are laid end to end over the lanes. Some are always under
// way: those of the shared part from before the kernel in front has ended, the experts' from when
// their numbers are read. Meanwhile the block copies hidden, all slots of it, into shared memory.
#pragma once

#include "expert_ffn/down.h"

namespace hybrid {

// Lane i knows the i-th of the slots whose expert is here.
struct Slots {
    int32_t count;   // the same in all lanes
    int32_t expert;  // among those here
    int32_t row;     // of hidden: the first slot that names the expert
    float share;
};

// All lanes of a warp call it.
DEVICE Slots slots_here(const DownRecord& record) {
    if (record.routed.hidden == nullptr) return {0, 0, 0, 0};
    const int lane = lane_index(), used = record.used;
    const bool is_slot = lane < used;
    const int expert = is_slot ? record.chosen[lane] - record.first_expert : -1;
    const float share = is_slot ? record.share[lane] : 0.0f;
    const unsigned here = warp_ballot(expert >= 0 && expert < record.experts);
    int row = lane, slot = 0;
    for (int other = used - 1; other >= 0; --other) {
        if (shuffle(expert, other) == expert) row = other;
        const int before = __popc(here & ((1u << other) - 1));
        if ((here >> other & 1) != 0 && before == lane) slot = other;
    }
    return {static_cast<int>(__popc(here)), shuffle(expert, slot), shuffle(row, slot),
            shuffle(share, slot)};
}

// Bytes of hidden's row in shared memory.
template <class F>
DEVICE int held_row_bytes(int columns) {
    return F::kFloat ? float_bytes(columns) : rounded_bytes(columns);
}

// Rows of hidden on their way into shared memory; close_copies() and a wait make them stand there.
template <class F>
DEVICE void hold_rows(const Down& part, int rows, uint8_t* held) {
    if (part.hidden == nullptr) return;
    const int columns = part.weight.columns, row_bytes = held_row_bytes<F>(columns);
    const int threads = static_cast<int>(blockDim.x);
    if constexpr (F::kFloat) {
        for (int at = threadIdx.x; at < rows * columns; at += threads) {
            const int row = at / columns;
            reinterpret_cast<float*>(held + row * row_bytes)[at - row * columns] = part.hidden[at];
        }
    } else {
        const int pieces = row_bytes / 16;
        for (int at = threadIdx.x; at < rows * pieces; at += threads) {
            const int row = at / pieces;
            const float* from = part.hidden + static_cast<int64_t>(row) * columns;
            copy16_async(held + 16 * at, from + 4 * (at - row * pieces));
        }
    }
}

template <class F, int ROWS>
struct DownStream {
    // Before sm_90, 160 bytes of a thread under way spill registers of Q3_K and IQ3_S.
    static constexpr int kBytes = kOverlaps ? 160 : 128;
    static constexpr int kWanted = kBytes / (ROWS * static_cast<int>(sizeof(typename F::Raw)));
    static constexpr int kDepth = kWanted < 2 ? 2 : kWanted > 8 ? 8 : kWanted;
    typename F::Raw raw[kDepth][ROWS];
    const Down& part;
    const Slots slots;
    const Items items;
    const int (&row)[ROWS];

    __device__ __forceinline__ DownStream(const Down& down, const Slots& slots_,
                                          const int (&row_)[ROWS])
        : part(down), slots(slots_), items(items_of<F>(down, slots_.count)), row(row_) {
#pragma unroll
        for (int place = 0; place < kDepth; ++place) load(place, place * kWarp);
    }

    // A lane behind the end takes the last item again, which it does not add.
    __device__ __forceinline__ void load(int place, int first) {
        if (first >= items.count) return;
        const int number = min(first + lane_index(), items.count - 1);
        const int at = items.expert_of(number), load = number - at * items.loads;
        const int64_t base = shuffle(slots.expert, at) * part.stride_rows;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) raw[place][r] = F::load(part.weight, base + row[r], load);
    }

    __device__ __forceinline__ void add(int place, int first, const uint8_t* held,
                                        const uint8_t* book, float (&sums)[ROWS]) const {
        const int number = min(first + lane_index(), items.count - 1);
        const int at = items.expert_of(number), load = number - at * items.loads;
        const int columns = part.weight.columns;
        const float share = shuffle(slots.share, at);
        const bool inside = first + lane_index() < items.count;
        const int bytes = shuffle(slots.row, at) * held_row_bytes<F>(columns);
        const Activations<F> x = {held + bytes, columns};
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const float product = share * dot_booked<F>(raw[place][r], x, load, book);
            sums[r] += inside ? product : 0.0f;
        }
    }

    __device__ __forceinline__ void run(const uint8_t* held, const uint8_t* book,
                                        float (&sums)[ROWS]) {
        for (int first = 0; first < items.count; first += kDepth * kWarp) {
#pragma unroll
            for (int place = 0; place < kDepth; ++place) {
                const int begin = first + place * kWarp;
                if (begin >= items.count) break;
                add(place, begin, held, book, sums);
                load(place, begin + kDepth * kWarp);
            }
        }
    }
};

}  // namespace hybrid
