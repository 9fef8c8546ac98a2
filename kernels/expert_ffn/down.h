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

// Returns how many experts are in use, by the first slot that names each. All threads call it.
template <int TOKENS>
DEVICE int list_work(const DownRecord& record, int32_t* expert_of, Work<TOKENS>* routed,
                     Work<TOKENS>& shared) {
    __shared__ int32_t leads[kMostSlots];
    const int slot = static_cast<int>(threadIdx.x);
    const int slots = record.routed.hidden != nullptr ? record.tokens * record.used : 0;
    if (slot < slots) expert_of[slot] = expert_here(record, slot);
    __syncthreads();
    if (slot < slots) {
        leads[slot] = expert_of[slot] >= 0;
        for (int earlier = 0; earlier < slot; ++earlier) {
            if (expert_of[earlier] == expert_of[slot]) leads[slot] = 0;
        }
    }
    if (slot < TOKENS) {
        shared.expert = 0;
        shared.user[slot] = slot < record.tokens ? slot : -1;
        shared.share[slot] = 1;
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

// Load number n of a part: n % loads of the row of its n / loads-th expert in use.
template <class F, int ROWS, int TOKENS>
struct Item {
    typename F::Raw raw[ROWS];
    const Work<TOKENS>* work;
    int load;
};

template <class F, int ROWS, int TOKENS>
DEVICE void load_item(const Down& part, const Work<TOKENS>* works, int loads, int number,
                      const int (&row)[ROWS], Item<F, ROWS, TOKENS>& item) {
    item.work = works + number / loads;
    item.load = number % loads;
    const int64_t first = item.work->expert * part.stride_rows;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) item.raw[r] = F::load(part.weight, first + row[r], item.load);
}

template <class F, int ROWS, int TOKENS>
DEVICE void add_item(const Down& part, const Item<F, ROWS, TOKENS>& item,
                     float (&sums)[ROWS][TOKENS]) {
    const int columns = part.weight.columns;
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
        const int user = item.work->user[t];
        if (user < 0) continue;
        const float share = item.work->share[t];
        const Activations<F> x = {part.hidden + static_cast<int64_t>(user) * columns, columns};
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sums[r][t] += share * dot<F>(item.raw[r], x, item.load);
    }
}

// sums += share * weight[row] . hidden over the `count` experts in use.
template <class F, int ROWS, int TOKENS>
DEVICE void add_products(const Down& part, const int (&row)[ROWS], const Work<TOKENS>* works,
                         int count, float (&sums)[ROWS][TOKENS]) {
    if (count == 0) return;
    constexpr int kAtOnce = TOKENS == 1 ? 4 / ROWS : 1;
    const int loads = loads_of<F>(part.weight.columns), items = loads * count;
    int first = 0;
    for (; first + kAtOnce * kWarp <= items; first += kAtOnce * kWarp) {
        Item<F, ROWS, TOKENS> item[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            load_item(part, works, loads, first + i * kWarp + lane_index(), row, item[i]);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) add_item(part, item[i], sums);
    }
    for (int number = first + lane_index(); number < items; number += kWarp) {
        Item<F, ROWS, TOKENS> item;
        load_item(part, works, loads, number, row, item);
        add_item(part, item, sums);
    }
}

}  // namespace hybrid
