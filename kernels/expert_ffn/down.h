// expert_down: which experts are in use, and their products, laid end to end over the lanes.
#pragma once

#include "expert_ffn/products.h"
#include "expert_ffn/users.h"

namespace hybrid {

struct Down {
    Matrix weight;        // of the first expert here, [rows, columns]
    int64_t stride_rows;  // from one expert to the next
    const float* hidden;  // [slots, columns] as expert_hidden left it, null: there is no such part
};

struct DownRecord {
    Down routed, shared;
    const int32_t* chosen;  // [tokens, used]
    const float* share;     // [tokens, used]
    float* h;               // [tokens, rows], added to
    int32_t rows, tokens, used;
    int32_t first_expert, experts;  // of those here
    int32_t unused;
};

// An expert in use, and for each token which row of hidden counts how much; none: -1.
template <int TOKENS>
struct Work {
    int32_t expert;
    int32_t user[TOKENS];
    float share[TOKENS];
};

// The slot's expert among those here, or -1.
DEVICE int expert_here(const DownRecord& record, int slot) {
    const int expert = record.chosen[slot] - record.first_expert;
    return expert >= 0 && expert < record.experts ? expert : -1;
}

template <int TOKENS>
DEVICE void fill_work(const DownRecord& record, const int32_t* expert_of, int expert,
                      Work<TOKENS>& work) {
    work.expert = expert;
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        work.user[t] = -1;
        work.share[t] = 0;
        for (int i = 0; t < record.tokens && i < record.used; ++i) {
            const int slot = t * record.used + i;
            if (expert_of[slot] != expert) continue;
            if (work.user[t] < 0) work.user[t] = slot;  // twice named: the same row, both shares
            work.share[t] += record.share[slot];
        }
    }
}

// What every token uses. All threads call it.
template <int TOKENS>
DEVICE void everybody(int tokens, Work<TOKENS>& work) {
    const int token = static_cast<int>(threadIdx.x);
    if (token == 0) work.expert = 0;
    if (token < TOKENS) {
        work.user[token] = token < tokens ? token : -1;
        work.share[token] = 1;
    }
    __syncthreads();
}

// Returns how many experts are in use, by the first slot that names each. All threads call it.
template <int TOKENS>
DEVICE int list_work(const DownRecord& record, int32_t* expert_of, Work<TOKENS>* routed) {
    __shared__ int32_t leads[TOKENS * kMostUsed];
    const int slot = static_cast<int>(threadIdx.x);
    const int slots = record.routed.hidden != nullptr ? record.tokens * record.used : 0;
    if (slot < slots) expert_of[slot] = expert_here(record, slot);
    __syncthreads();
    if (slot < slots) {
        bool first = expert_of[slot] >= 0;
        for (int earlier = 0; earlier < slot; ++earlier) {
            first &= expert_of[earlier] != expert_of[slot];
        }
        leads[slot] = first;
    }
    __syncthreads();
    int before = 0, count = 0;
    for (int other = 0; other < slots; ++other) {
        count += leads[other];
        before += other < slot ? leads[other] : 0;
    }
    if (slot < slots && leads[slot]) fill_work(record, expert_of, expert_of[slot], routed[before]);
    __syncthreads();
    return count;
}

// Item n of a part is load n % loads of the row of its n / loads-th expert in use.
struct Items {
    int count, loads;
    uint32_t inverse;  // 2^32 / loads, rounded up: exact for the numbers of a step

    __device__ __forceinline__ int expert_of(int number) const {
        if (loads == 1) return number;
        return static_cast<int>(static_cast<uint64_t>(number) * inverse >> 32);
    }
};

template <class F>
DEVICE Items items_of(const Down& part, int experts) {
    const int loads = max(loads_of<F>(part.weight.columns), 1);
    const uint64_t whole = uint64_t(1) << 32;
    return {loads * experts, loads, static_cast<uint32_t>((whole + loads - 1) / loads)};
}

// A lane's loads under way.
template <class F, int ROWS, int TOKENS>
struct Loaded {
    static constexpr int kTurns = TOKENS == 1 ? 4 / ROWS : 2 / ROWS;
    static constexpr int kItems = kTurns * kWarp;
    typename F::Raw raw[kTurns][ROWS];
};

// A lane behind the end takes the last item again, which it does not multiply.
template <class F, int ROWS, int TOKENS>
DEVICE void load_items(const Down& part, const Work<TOKENS>* works, const Items& items, int first,
                       const int (&row)[ROWS], Loaded<F, ROWS, TOKENS>& loaded) {
#pragma unroll
    for (int turn = 0; turn < loaded.kTurns; ++turn) {
        const int number = min(first + turn * kWarp + lane_index(), items.count - 1);
        const int at = items.expert_of(number), load = number - at * items.loads;
        const int64_t base = works[at].expert * part.stride_rows;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            loaded.raw[turn][r] = F::load(part.weight, base + row[r], load);
        }
    }
}

template <class F, int ROWS, int TOKENS>
DEVICE void add_item(const Down& part, const Work<TOKENS>& work, int load,
                     const typename F::Raw (&raw)[ROWS], float (&sums)[ROWS][TOKENS]) {
    const int columns = part.weight.columns;
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        const int user = work.user[t];
        if (user < 0) continue;
        const Activations<F> x = {part.hidden + static_cast<int64_t>(user) * columns, columns};
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sums[r][t] += work.share[t] * dot<F>(raw[r], x, load);
    }
}

// sums += share * weight[row] . hidden, the first items loaded already.
template <class F, int ROWS, int TOKENS>
DEVICE void add_items(const Down& part, const Work<TOKENS>* works, const Items& items,
                      const int (&row)[ROWS], Loaded<F, ROWS, TOKENS>& loaded,
                      float (&sums)[ROWS][TOKENS]) {
    for (int first = 0; first < items.count; first += loaded.kItems) {
        if (first > 0) load_items(part, works, items, first, row, loaded);
#pragma unroll
        for (int turn = 0; turn < loaded.kTurns; ++turn) {
            const int number = first + turn * kWarp + lane_index();
            if (number >= items.count) break;
            const int at = items.expert_of(number);
            add_item<F>(part, works[at], number - at * items.loads, loaded.raw[turn], sums);
        }
    }
}

}  // namespace hybrid
