// expert_hidden of one token: rows of gate and up stream through a warp's registers.
//
// Units of 32 rows, of the shared part and of the experts here, are dealt to the blocks, one block
// of a processor, which rounds x once. A warp's rows of all its units are one sequence of steps, 32
// loads of gate and the same of up each. A few steps are always under way: those of the shared part
// from before the kernel in front has ended, an expert's from when its number is read; each is
// followed by the next as soon as it is used.
#pragma once

#include "expert_ffn/hidden.h"
#include "planar/activations_one.h"

namespace hybrid {

constexpr int kThreadsOfOne = 512;
constexpr int kRowsOfOne = kUnitRows / (kThreadsOfOne / kWarp);  // of a unit, for each warp

// Bytes of loads that a thread has under way.
constexpr int kStreamBytes = 144;

// Lane i knows the i-th of the experts here, and the first slot that names it.
struct Chosen {
    int32_t count;   // the same in all lanes
    int32_t expert;  // among those here
    int32_t slot;
};

// All lanes of a warp call it.
DEVICE Chosen experts_here(const HiddenRecord& record) {
    const int lane = lane_index();
    if (record.routed.hidden == nullptr) return {0, 0, 0};
    const int expert = lane < record.used ? record.chosen[lane] - record.first_expert : -1;
    bool first = expert >= 0 && expert < record.experts;
#pragma unroll
    for (int other = 0; other < kMostUsed; ++other)
        if (shuffle(expert, other) == expert && other < lane) first = false;
    const unsigned here = warp_ballot(first);
    int slot = 0;
#pragma unroll
    for (int other = 0; other < kMostUsed; ++other)
        if ((here >> other & 1) != 0 && __popc(here & ((1u << other) - 1)) == lane) slot = other;
    return {static_cast<int32_t>(__popc(here)), shuffle(expert, slot), slot};
}

// The block's units of one part: those of number `first` and every gridDim.x-th behind it.
struct UnitsOfBlock {
    const Halves& part;
    const Chosen& chosen;
    int first, end;

    __device__ __forceinline__ int step() const { return static_cast<int>(gridDim.x); }
    __device__ __forceinline__ int count() const {
        return first < end ? (end - first + step() - 1) / step() : 0;
    }
    __device__ __forceinline__ int slot(int number) const {
        return shuffle(chosen.slot, number / units(part));
    }
    // In the planes, of the warp's row `turn` of the unit.
    __device__ __forceinline__ int64_t row(int number, int turn) const {
        const int expert = number / units(part);
        const int at = (number - expert * units(part)) * kUnitRows + warp_index() * kRowsOfOne;
        return shuffle(chosen.expert, expert) * part.stride_rows +
               min(at + turn, part.gate.rows - 1);
    }
};

template <class G, class U>
struct Stream {
    static constexpr int kWanted =
        kStreamBytes / (sizeof(typename G::Raw) + sizeof(typename U::Raw));
    static constexpr int kDepth = kWanted < 2 ? 2 : kWanted > 4 ? 4 : kWanted;
    typename G::Raw gate[kDepth];
    typename U::Raw up[kDepth];
    const UnitsOfBlock& units;
    int steps;               // of a row
    int number, turn, step;  // the next to load
    int64_t row;

    __device__ __forceinline__ Stream(const UnitsOfBlock& of_block)
        : units(of_block),
          steps((max(loads_of<G>(of_block.part.gate.columns),
                     loads_of<U>(of_block.part.gate.columns)) +
                 kWarp - 1) /
                kWarp),
          number(of_block.first),
          turn(0),
          step(0),
          row(0) {
#pragma unroll
        for (int place = 0; place < kDepth; ++place) load(place);
    }

    // Behind the end of a row or of the matrix a lane takes the last load again; nobody uses it.
    __device__ __forceinline__ void load(int place) {
        if (number >= units.end) return;
        if (step == 0) row = units.row(number, turn);
        const Halves& part = units.part;
        const int load = step * kWarp + lane_index(), columns = part.gate.columns;
        gate[place] = G::load(part.gate, row, min(load, loads_of<G>(columns) - 1));
        up[place] = U::load(part.up, row, min(load, loads_of<U>(columns) - 1));
        if (++step < steps) return;
        step = 0;
        if (++turn < kRowsOfOne) return;
        turn = 0, number += units.step();
    }
};

// Without a branch, so that the loads of several products are under way together.
template <class F>
DEVICE float dot_inside(const typename F::Raw& raw, const void* held, const uint8_t* book,
                        int columns, int load) {
    const int loads = loads_of<F>(columns);
    const Activations<F> x = {held, columns};
    const float product = dot_booked<F>(raw, x, min(load, loads - 1), book);
    return load < loads ? product : 0.0f;
}

// 32 values of unit `number` into its row of hidden, by one warp.
DEVICE void write_one(const UnitsOfBlock& of_block, int number, const float* result) {
    const Halves& part = of_block.part;
    const int lane = lane_index(), unit = number % units(part), at = unit * kUnitRows + lane;
    float* const hidden =
        part.hidden + static_cast<int64_t>(of_block.slot(number)) * part.gate.rows;
    if (!part.rounded) {
        if (at < part.gate.rows) hidden[at] = result[lane];
        return;
    }
    const float4 four = *reinterpret_cast<const float4*>(result + lane % 8 * 4);
    round_group(Rounded(hidden, part.gate.rows, 0), unit, four);
}

// The products of the block's units with what it holds. Units that are complete are left to a warp
// each after a barrier; the others go on, and write the values of the next ones elsewhere.
template <class G, class U>
DEVICE void run_stream(Stream<G, U>& stream, const uint8_t* held, const uint8_t* books) {
    constexpr int kOpen = 8;  // those of two turns of the loop and one begun
    __shared__ float4 results[kOpen][kUnitRows / 4];
    const UnitsOfBlock& of_block = stream.units;
    const int columns = of_block.part.gate.columns, steps = stream.steps;
    const uint8_t* const for_gate = held + (G::kFloat ? 0 : rounded_at<G, U>(columns));
    const uint8_t* const for_up = held + (U::kFloat ? 0 : rounded_at<G, U>(columns));
    const uint8_t* const book_of_up = books + Books<G, U>::kSecond;
    const int all = of_block.count() * kRowsOfOne * steps;
    int complete = 0, written = 0, turn = 0, step = 0;
    float g = 0, u = 0;
    for (int first = 0; first < all; first += stream.kDepth) {
#pragma unroll
        for (int place = 0; place < stream.kDepth; ++place) {
            if (first + place >= all) break;
            const int load = step * kWarp + lane_index();
            g += dot_inside<G>(stream.gate[place], for_gate, books, columns, load);
            u += dot_inside<U>(stream.up[place], for_up, book_of_up, columns, load);
            stream.load(place);
            if (++step < steps) continue;
            g = warp_sum(g), u = warp_sum(u);
            float* const result = reinterpret_cast<float*>(results[complete % kOpen]);
            if (lane_index() == 0) result[warp_index() * kRowsOfOne + turn] = gated(g, u);
            g = u = 0;
            step = 0;
            if (++turn < kRowsOfOne) continue;
            turn = 0, ++complete;
        }
        if (written == complete) continue;
        __syncthreads();
        for (; written < complete; ++written) {
            const float* result = reinterpret_cast<const float*>(results[written % kOpen]);
            if (warp_index() == written % warps_of_block())
                write_one(of_block, of_block.first + written * of_block.step(), result);
        }
    }
}

template <class G, class U>
DEVICE void hold_one(const HiddenRecord& record, int columns, RowAhead& ahead, uint8_t* held) {
    if constexpr (kTakesFloats<G, U>) {
        copy_into<1>(held, record.x, columns, 1, record.norm, record.epsilon);
    }
    if constexpr (kTakesRounded<G, U>) {
        ahead.load_x(record.x, columns);
        round_one(held + rounded_at<G, U>(columns), record.x, columns, record.norm, record.epsilon,
                  ahead);
    }
}

}  // namespace hybrid
