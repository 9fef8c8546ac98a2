// expert_hidden of one token where all units fit onto the GPU at once, three blocks a processor: a
// block has one unit, 32 rows of gate and up. Memory is then asked for everything as early as can
// be, and a block that ends leaves its room to the next kernel.
//
// A warp's four rows are one sequence of steps, 32 loads of gate and the same of up each. A few
// steps are always under way: those of the shared part from before the kernel in front has ended,
// an expert's from when its number is read; each is followed by the next as soon as it is used.
#pragma once

#include "expert_ffn/hidden.h"
#include "planar/activations_one.h"

namespace hybrid {

// Bytes of loads that a thread has under way.
constexpr int kSmallBytes = 144;

template <class G, class U>
struct UnitStream {
    static constexpr int kWanted =
        kSmallBytes / static_cast<int>(sizeof(typename G::Raw) + sizeof(typename U::Raw));
    static constexpr int kDepth = kWanted < 2 ? 2 : kWanted > 4 ? 4 : kWanted;
    typename G::Raw gate[kDepth];
    typename U::Raw up[kDepth];
    const Halves& part;
    int64_t first_row;  // of the expert's planes
    int unit, steps;    // steps of a row
    int row, step;      // the next to load

    __device__ __forceinline__ UnitStream(const Halves& halves, int expert, int unit_)
        : part(halves),
          first_row(expert * halves.stride_rows),
          unit(unit_),
          steps((max(loads_of<G>(halves.gate.columns), loads_of<U>(halves.gate.columns)) + kWarp -
                 1) /
                kWarp),
          row(0),
          step(0) {
#pragma unroll
        for (int place = 0; place < kDepth; ++place) load(place);
    }

    // Behind the end of a row or of the matrix a lane takes the last load again; nobody uses it.
    __device__ __forceinline__ void load(int place) {
        if (row >= kRowsOfWarp) return;
        const int at = unit * kUnitRows + warp_index() * kRowsOfWarp + row;
        const int64_t from = first_row + min(at, part.gate.rows - 1);
        const int load = step * kWarp + lane_index(), columns = part.gate.columns;
        gate[place] = G::load(part.gate, from, min(load, loads_of<G>(columns) - 1));
        up[place] = U::load(part.up, from, min(load, loads_of<U>(columns) - 1));
        if (++step == steps) step = 0, ++row;
    }
};

// Without a branch, so that the loads of several products are under way together.
template <class F>
DEVICE float dot_inside(const typename F::Raw& raw, const void* held, int columns, int load) {
    const int loads = loads_of<F>(columns);
    const float product = dot<F>(raw, Activations<F>{held, columns}, min(load, loads - 1));
    return load < loads ? product : 0.0f;
}

// The products of a warp's rows with what the block holds.
template <class G, class U>
DEVICE void run_unit(UnitStream<G, U>& stream, const uint8_t* held, float* result) {
    const int columns = stream.part.gate.columns, steps = stream.steps;
    const uint8_t* const for_gate = held + (G::kFloat ? 0 : rounded_at<G, U>(columns));
    const uint8_t* const for_up = held + (U::kFloat ? 0 : rounded_at<G, U>(columns));
    const int all = kRowsOfWarp * steps;
    int row = 0, step = 0;
    float g = 0, u = 0;
    for (int first = 0; first < all; first += stream.kDepth) {
#pragma unroll
        for (int place = 0; place < stream.kDepth; ++place) {
            if (first + place >= all) break;
            const int load = step * kWarp + lane_index();
            g += dot_inside<G>(stream.gate[place], for_gate, columns, load);
            u += dot_inside<U>(stream.up[place], for_up, columns, load);
            stream.load(place);
            if (++step < steps) continue;
            g = warp_sum(g), u = warp_sum(u);
            if (lane_index() == 0) result[warp_index() * kRowsOfWarp + row] = gated(g, u);
            g = u = 0;
            step = 0, ++row;
        }
    }
}

using SmallAhead = RowAheadOf<2>;

template <class G, class U>
DEVICE void hidden_small(const HiddenRecord& record, UnitStream<G, U>& stream, int slot,
                         SmallAhead& ahead, uint8_t* held) {
    __shared__ float4 fours[kUnitRows / 4];
    float* const result = reinterpret_cast<float*>(fours);
    const int columns = stream.part.gate.columns;
    if constexpr (kTakesRounded<G, U>) ahead.load_x(record.x, columns);
    hold_one<G, U>(record, columns, ahead, held);
    run_unit(stream, held, result);
    __syncthreads();
    if (warp_index() == 0) write_unit(stream.part, slot, stream.unit, result);
}

// The expert of `slot` among those here; -1 when it is elsewhere or an earlier slot names it too.
DEVICE int expert_of_slot(const HiddenRecord& record, int slot) {
    const int named = record.chosen[min(lane_index(), record.used - 1)];
    const int expert = shuffle(named, slot);
    const bool again = warp_any(lane_index() < slot && named == expert);
    const int here = expert - record.first_expert;
    return !again && here >= 0 && here < record.experts ? here : -1;
}

}  // namespace hybrid
