// expert_hidden of one token: rows of gate and up stream through a warp's registers.
//
// Units of 32 rows, of the shared part and of the experts here, are dealt to the blocks, one block
// of a processor, which rounds x once. A warp has two rows of each, of gate and of up, which share
// what is read of x. The steps of all its units are one sequence, 32 loads of each row to a step.
// Some are always under way: those of the shared part from before the kernel in front has ended, an
// expert's from when its number is read; each is followed by the next as soon as it is used.
#pragma once

#include "expert_ffn/hidden.h"
#include "planar/activations_one.h"

namespace hybrid {

constexpr int kThreadsOfOne = 512;
constexpr int kRowsOfOne = kUnitRows / (kThreadsOfOne / kWarp);  // of a unit, for each warp
static_assert(kRowsOfOne == 2, "sums of two rows of gate and two of up are added up together");

// Bytes of loads that a thread has under way.
constexpr int kStreamBytes = 160;

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
    // In the planes, of the warp's rows of the unit; behind the end the last one.
    __device__ __forceinline__ void rows(int number, int64_t (&row)[kRowsOfOne]) const {
        const int expert = number / units(part);
        const int at = (number - expert * units(part)) * kUnitRows + warp_index() * kRowsOfOne;
        const int64_t first = shuffle(chosen.expert, expert) * part.stride_rows;
#pragma unroll
        for (int r = 0; r < kRowsOfOne; ++r) row[r] = first + min(at + r, part.gate.rows - 1);
    }
};

// Whether registers hold two steps of a format beside its arithmetic.
template <class F>
constexpr bool kOpensTwo = F::kBookBytes == 0 && (is_small<F>() || F::kSteps > 2);

template <class F>
using RowOf = decltype(F::row(Matrix(), 0));

template <class G, class U>
struct Stream {
    static constexpr int kStepBytes =
        kRowsOfOne * static_cast<int>(sizeof(typename G::Raw) + sizeof(typename U::Raw));
    static constexpr int kWanted = kStreamBytes / kStepBytes;
    static constexpr int kMost = kOpensTwo<G> && kOpensTwo<U> ? 2 : 1;
    static constexpr int kDepth = kWanted < 1 ? 1 : kWanted > kMost ? kMost : kWanted;
    typename G::Raw gate[kDepth][kRowsOfOne];
    typename U::Raw up[kDepth][kRowsOfOne];
    const UnitsOfBlock& units;
    int steps;         // of a row
    int number, step;  // the next to load
    RowOf<G> gate_row[kRowsOfOne];
    RowOf<U> up_row[kRowsOfOne];

    __device__ __forceinline__ Stream(const UnitsOfBlock& of_block)
        : units(of_block),
          steps((max(loads_of<G>(of_block.part.gate.columns),
                     loads_of<U>(of_block.part.gate.columns)) +
                 kWarp - 1) /
                kWarp),
          number(of_block.first),
          step(0) {
        find_rows();
#pragma unroll
        for (int place = 0; place < kDepth; ++place) {
            load_gate(place);
            load_up(place);
            advance();
        }
    }

    __device__ __forceinline__ void find_rows() {
        if (number >= units.end) return;
        int64_t row[kRowsOfOne];
        units.rows(number, row);
#pragma unroll
        for (int r = 0; r < kRowsOfOne; ++r) {
            gate_row[r] = G::row(units.part.gate, row[r]);
            up_row[r] = U::row(units.part.up, row[r]);
        }
    }

    // Behind the end of a row a lane takes the last load again, which counts nothing.
    __device__ __forceinline__ void load_gate(int place) {
        if (number >= units.end) return;
        const int last = loads_of<G>(units.part.gate.columns) - 1;
#pragma unroll
        for (int r = 0; r < kRowsOfOne; ++r)
            gate[place][r] = G::read(gate_row[r], min(step * kWarp + lane_index(), last));
    }
    __device__ __forceinline__ void load_up(int place) {
        if (number >= units.end) return;
        const int last = loads_of<U>(units.part.gate.columns) - 1;
#pragma unroll
        for (int r = 0; r < kRowsOfOne; ++r)
            up[place][r] = U::read(up_row[r], min(step * kWarp + lane_index(), last));
    }
    __device__ __forceinline__ void advance() {
        if (++step < steps) return;
        step = 0, number += units.step();
        find_rows();
    }
};

// x beside a load, as formats of blocks multiply it; behind the row's end it counts nothing.
DEVICE RoundedGroup rounded_beside(const uint8_t* held, int columns, int load) {
    const int last = columns / 32 - 1;
    RoundedGroup x = Rounded(const_cast<uint8_t*>(held), columns, 0).group(min(load, last));
    x.scale = load <= last ? x.scale : 0.0f;
    return x;
}

// Without a branch, so that the loads of several products are under way together.
template <class F>
DEVICE void add_loaded(const typename F::Raw (&raw)[kRowsOfOne], const uint8_t* floats,
                       const RoundedGroup& rounded, const uint8_t* book, int columns, int load,
                       float* sums) {
    const int last = loads_of<F>(columns) - 1;
#pragma unroll
    for (int r = 0; r < kRowsOfOne; ++r) {
        if constexpr (F::kFloat) {
            const float product = dot<F>(raw[r], Activations<F>{floats, columns}, min(load, last));
            sums[r] += load <= last ? product : 0.0f;
        } else {
            sums[r] += dot_booked<F>(raw[r], min(load, last), rounded, book);
        }
    }
}

// Sums over the warp, of which lane 8 i has the i-th.
DEVICE float sums_of_four(const float (&values)[4]) {
    const bool upper = (lane_index() & 16) != 0, odd = (lane_index() & 8) != 0;
    const float even_sum =
        (upper ? values[2] : values[0]) + shuffle_xor(upper ? values[0] : values[2], 16);
    const float odd_sum =
        (upper ? values[3] : values[1]) + shuffle_xor(upper ? values[1] : values[3], 16);
    float sum = (odd ? odd_sum : even_sum) + shuffle_xor(odd ? even_sum : odd_sum, 8);
#pragma unroll
    for (int lanes = 4; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
    return sum;
}

// The products of the block's units with what it holds. Units that are complete are left to a warp
// each after a barrier; the others go on, and write the values of the next ones elsewhere.
template <class G, class U>
DEVICE void run_stream(Stream<G, U>& stream, const uint8_t* held, const uint8_t* books) {
    constexpr int kOpen = 8;  // those of two turns of the loop and one begun
    __shared__ float4 results[kOpen][kUnitRows / 4];
    const UnitsOfBlock& of_block = stream.units;
    const int columns = of_block.part.gate.columns, steps = stream.steps;
    const uint8_t* const book_of_up = books + Books<G, U>::kSecond;
    const int all = of_block.count() * steps;
    int complete = 0, written = 0, step = 0;
    float sums[2 * kRowsOfOne] = {};
    for (int first = 0; first < all; first += stream.kDepth) {
#pragma unroll
        for (int place = 0; place < stream.kDepth; ++place) {
            if (first + place >= all) break;
            const int load = step * kWarp + lane_index();
            RoundedGroup x = {};
            if constexpr (kTakesRounded<G, U>)
                x = rounded_beside(held + rounded_at<G, U>(columns), columns, load);
            add_loaded<G>(stream.gate[place], held, x, books, columns, load, sums);
            stream.load_gate(place);
            add_loaded<U>(stream.up[place], held, x, book_of_up, columns, load, sums + kRowsOfOne);
            stream.load_up(place);
            stream.advance();
            if (++step < steps) continue;
            const float gate = sums_of_four(sums), up = shuffle_xor(gate, 16);
            float* const result = reinterpret_cast<float*>(results[complete % kOpen]);
            if (lane_index() == 0 || lane_index() == 8)
                result[warp_index() * kRowsOfOne + lane_index() / 8] = gated(gate, up);
#pragma unroll
            for (float& sum : sums) sum = 0.0f;
            step = 0, ++complete;
        }
        if (written == complete) continue;
        __syncthreads();
        for (; written < complete; ++written) {
            const float* result = reinterpret_cast<const float*>(results[written % kOpen]);
            const int number = of_block.first + written * of_block.step();
            if (warp_index() == written % warps_of_block())
                write_unit(of_block.part, of_block.slot(number), number % units(of_block.part),
                           result);
        }
    }
}

}  // namespace hybrid
