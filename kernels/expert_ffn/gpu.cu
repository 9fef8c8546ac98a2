// Feed-forward of a decode step in two launches: hidden = silu(gate x) * (up x), then h += down
// hidden, each one grid over the routed experts in use and the shared (or dense) feed-forward.
//
//   expert_hidden   a block: 32 rows of gate and up of one expert, for all tokens that chose it.
//                   One block of 32 rows for each slot of each token is launched; the first slot
//                   that names an expert works for all, the others leave at once. 32 rows make
//                   one group of what `down` multiplies, so the block rounds it too, and
//                   expert_down's blocks need not.
//   expert_down     a warp: some rows of the sum, over all experts in use, their groups laid end to
//                   end over the lanes. One writer a value, added in the same order every time.
//
// A row of `hidden` is as long as its values are as floats; for a `down` in blocks it holds them as
// `Rounded` of activations.h.
#include "expert_ffn/down.h"
#include "expert_ffn/down_one.h"
#include "expert_ffn/hidden.h"
#include "expert_ffn/hidden_one.h"
#include "expert_ffn/hidden_small.h"

namespace hybrid {

// Weights come under way before anything is waited for or rounded: those of the shared part before
// the kernel in front has ended, an expert's as soon as its number is read.
template <int PASS, class RG, class RU, class SG, class SU>
__global__ void __launch_bounds__(kThreads, 2) expert_hidden(const HiddenRecord record) {
    __shared__ Users users;
    DYNAMIC_SHARED(uint8_t, memory);
    const int block = static_cast<int>(blockIdx.x), of_shared = units(record.shared);
    int64_t row[kRowsAtOnce<PASS>];
    if (block < of_shared) {
        Batch<SG, SU, PASS> batch;
        rows_at(record.shared, 0, block, warp_index() * kRowsOfWarp, row);
        batch.load(record.shared, row, 0);
        wait_for_previous();
        let_next_start();
        everybody(record.tokens, users);
        hidden_unit(record, record.shared, 0, block, users, memory, batch);
        return;
    }
    wait_for_previous();
    let_next_start();
    const int of_slot = units(record.routed);
    const int slot = (block - of_shared) / of_slot, unit = (block - of_shared) % of_slot;
    const int expert = record.chosen[slot] - record.first_expert;
    if (expert < 0 || expert >= record.experts) return;
    Batch<RG, RU, PASS> batch;
    rows_at(record.routed, expert, unit, warp_index() * kRowsOfWarp, row);
    batch.load(record.routed, row, 0);
    if (!find_users(record.chosen, record.tokens, record.used, slot, users)) return;
    hidden_unit(record, record.routed, expert, unit, users, memory, batch);
}

// One token: the same units at once. Before sm_90 three blocks would spill registers of formats
// with 32 bytes a load.
template <class RG, class RU, class SG, class SU>
__global__ void __launch_bounds__(kThreads, kOverlaps ? 3 : 2)
    expert_hidden_small(const HiddenRecord record) {
    DYNAMIC_SHARED(uint8_t, memory);
    const int block = static_cast<int>(blockIdx.x), of_shared = units(record.shared);
    SmallAhead ahead;
    if (block < of_shared) {
        UnitStream<SG, SU> stream(record.shared, 0, block);
        ahead.load_norm(record.norm, record.shared.gate.columns);
        wait_for_previous();
        let_next_start();
        hidden_small(record, stream, 0, ahead, memory);
        return;
    }
    ahead.load_norm(record.norm, record.routed.gate.columns);
    wait_for_previous();
    let_next_start();
    const int of_slot = units(record.routed), slot = (block - of_shared) / of_slot;
    const int expert = expert_of_slot(record, slot);
    if (expert < 0) return;
    UnitStream<RG, RU> stream(record.routed, expert, (block - of_shared) % of_slot);
    hidden_small(record, stream, slot, ahead, memory);
}

// One token: the same units, dealt to one block of each processor.
template <class RG, class RU, class SG, class SU>
__global__ void __launch_bounds__(kThreadsOfOne, 1) expert_hidden_one(const HiddenRecord record) {
    DYNAMIC_SHARED(uint8_t, books);
    uint8_t* const held = books + max(Books<RG, RU>::kBytes, Books<SG, SU>::kBytes);
    const int block = static_cast<int>(blockIdx.x), of_shared = units(record.shared);
    const int columns =
        record.shared.hidden != nullptr ? record.shared.gate.columns : record.routed.gate.columns;
    RowAhead ahead;
    const Chosen everyone = {1, 0, 0};
    const UnitsOfBlock shared = {record.shared, everyone, block, of_shared};
    Chosen chosen;
    if (shared.count() > 0) {
        Stream<SG, SU> stream(shared);
        ahead.load_norm(record.norm, columns);
        Books<SG, SU>::fill(books);
        wait_for_previous();
        let_next_start();
        if constexpr (kTakesRounded<SG, SU>) ahead.load_x(record.x, columns);
        chosen = experts_here(record);
        hold_one<SG, SU>(record, columns, ahead, held);
        run_stream(stream, held, books);
    } else {
        ahead.load_norm(record.norm, columns);
        Books<RG, RU>::fill(books);
        wait_for_previous();
        let_next_start();
        if constexpr (kTakesRounded<RG, RU>) ahead.load_x(record.x, columns);
        chosen = experts_here(record);
    }
    const int first = block + shared.count() * static_cast<int>(gridDim.x) - of_shared;
    const UnitsOfBlock routed = {record.routed, chosen, first, chosen.count * units(record.routed)};
    if (routed.count() == 0) return;
    Stream<RG, RU> stream(routed);
    if (shared.count() == 0) {
        hold_one<RG, RU>(record, columns, ahead, held);
    } else {
        Books<RG, RU>::fill(books);
        if constexpr (!kHeldAlike<RG, RU, SG, SU>) {
            ahead.load_norm(record.norm, columns);
            ahead.load_x(record.x, columns);
            hold_one<RG, RU>(record, columns, ahead, held);
        }
    }
    __syncthreads();
    run_stream(stream, held, books);
}

template <int TOKENS, int ROWS, class RD, class SD>
__global__ void __launch_bounds__(kThreads, 3) expert_down(const DownRecord record) {
    __shared__ Work<TOKENS> routed[TOKENS * kMostUsed], shared;
    __shared__ int32_t expert_of[TOKENS * kMostUsed];
    const int warp = static_cast<int>(blockIdx.x) * kWarps + warp_index();
    const int first_row = warp * ROWS;
    int row[ROWS];
    for (int r = 0; r < ROWS; ++r) row[r] = min(first_row + r, record.rows - 1);
    const Items of_shared = items_of<SD>(record.shared, record.shared.hidden != nullptr);
    Items of_routed = items_of<RD>(record.routed, 0);
    Loaded<SD, ROWS, TOKENS> batch;
    everybody(record.tokens, shared);
    if (of_shared.count > 0) load_items(record.shared, &shared, of_shared, 0, row, batch);
    wait_for_previous();
    let_next_start();
    of_routed.count = of_routed.loads * list_work(record, expert_of, routed);
    float sums[ROWS][TOKENS] = {};
    if (of_shared.count > 0) add_items(record.shared, &shared, of_shared, row, batch, sums);
    if (of_routed.count > 0) {
        Loaded<RD, ROWS, TOKENS> of_experts;
        load_items(record.routed, routed, of_routed, 0, row, of_experts);
        add_items(record.routed, routed, of_routed, row, of_experts, sums);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
            const float sum = warp_sum(sums[r][t]);
            if (lane_index() != 0 || t >= record.tokens || first_row + r >= record.rows) continue;
            record.h[static_cast<int64_t>(t) * record.rows + first_row + r] += sum;
        }
    }
}

// One token, whose hidden values fit into the shared memory of a block.
template <int ROWS, class RD, class SD>
__global__ void __launch_bounds__(kThreads, 2) expert_down_one(const DownRecord record) {
    DYNAMIC_SHARED(uint8_t, books);
    uint8_t* const memory = books + Books<RD, SD>::kBytes;
    const int first_row = (static_cast<int>(blockIdx.x) * kWarps + warp_index()) * ROWS;
    int row[ROWS];
    for (int r = 0; r < ROWS; ++r) row[r] = min(first_row + r, record.rows - 1);
    const bool has_shared = record.shared.hidden != nullptr;
    const int routed_rows = record.routed.hidden != nullptr ? record.used : 0;
    DownStream<SD, ROWS> of_shared(record.shared, Slots{has_shared, 0, 0, 1.0f}, row);
    Books<RD, SD>::fill(books);
    wait_for_previous();
    let_next_start();
    uint8_t* const shared_memory =
        memory + routed_rows * held_row_bytes<RD>(record.routed.weight.columns);
    const Slots slots = slots_here(record);
    hold_rows<RD>(record.routed, routed_rows, memory);
    hold_rows<SD>(record.shared, 1, shared_memory);
    close_copies();
    DownStream<RD, ROWS> of_routed(record.routed, slots, row);
    float before[ROWS], sums[ROWS] = {};
    for (int r = 0; r < ROWS; ++r) before[r] = record.h[row[r]];
    wait_for_copies<0>();
    __syncthreads();
    of_shared.run(shared_memory, books + Books<RD, SD>::kSecond, sums);
    of_routed.run(memory, books, sums);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const float sum = warp_sum(sums[r]);
        if (lane_index() == 0 && first_row + r < record.rows)
            record.h[first_row + r] = before[r] + sum;
    }
}

}  // namespace hybrid
