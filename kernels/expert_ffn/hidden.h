// One unit of expert_hidden: 32 rows of gate and up, times the normed activations of some tokens.
#pragma once

#include "expert_ffn/products.h"
#include "expert_ffn/users.h"
#include "planar/activations_one.h"

namespace hybrid {

constexpr int kUnitRows = 32;
constexpr int kRowsOfWarp = kUnitRows / kWarps;

// Rows of gate and of up that a warp takes at once, for so many users: sums fill the registers.
template <int PASS>
constexpr int kRowsAtOnce = PASS == 8 ? 1 : 2;

// gate and up of one expert after the other, or of the one that every token uses.
struct Halves {
    Matrix gate, up;      // of the first expert here, [rows, width]
    int64_t stride_rows;  // from one expert to the next
    float* hidden;        // [slots, rows], null: there is no such part
    int32_t rounded;      // whether a row of hidden is left as `Rounded`
    int32_t unused;
};

struct HiddenRecord {
    Halves routed, shared;
    const float* x;         // [tokens, width]
    const float* norm;      // [width], or null: x is used as it is
    const int32_t* chosen;  // [tokens, used], model-wide expert numbers
    float epsilon;
    int32_t tokens, used;
    int32_t first_expert, experts;  // of those here
    int32_t unused;
};

DEVICE int units(const Halves& part) {
    return part.hidden != nullptr ? (part.gate.rows + kUnitRows - 1) / kUnitRows : 0;
}

template <class G, class U>
constexpr bool kTakesFloats = G::kFloat || U::kFloat;
template <class G, class U>
constexpr bool kTakesRounded = !G::kFloat || !U::kFloat;

// Whether both pairs multiply the same rows in shared memory.
template <class RG, class RU, class SG, class SU>
constexpr bool kHeldAlike =
    kTakesFloats<RG, RU> == kTakesFloats<SG, SU> && kTakesRounded<RG, RU> == kTakesRounded<SG, SU>;

// Of one user's activations in shared memory: where the rounded ones begin, behind the floats.
template <class G, class U>
DEVICE int rounded_at(int columns) {
    return kTakesFloats<G, U> ? float_bytes(columns) : 0;
}

template <class G, class U>
DEVICE int held_bytes(int columns) {
    return rounded_at<G, U>(columns) + (kTakesRounded<G, U> ? rounded_bytes(columns) : 0);
}

template <class G, class U>
DEVICE void hold(const HiddenRecord& record, int token, int columns, uint8_t* held) {
    const float* x = record.x + static_cast<int64_t>(token) * columns;
    if constexpr (kTakesFloats<G, U>) {
        copy_into<1>(held, x, columns, 1, record.norm, record.epsilon);
    }
    if constexpr (kTakesRounded<G, U>) {
        uint8_t* const to = held + rounded_at<G, U>(columns);
        round_into<1>(to, x, columns, 1, record.norm, record.epsilon);
    }
}

// Loads `first` and some more of each of a warp's rows: a lane takes every 32nd.
template <class F, int TURNS, int ROWS>
struct Words {
    typename F::Raw of[TURNS][ROWS];
};

// A lane behind the row's end takes its last load again, which it does not multiply.
template <class F, int TURNS, int ROWS>
DEVICE void load_words(const Matrix& matrix, const int64_t (&row)[ROWS], int first,
                       Words<F, TURNS, ROWS>& words) {
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int load = min(first + turn * kWarp + lane_index(), loads_of<F>(matrix.columns) - 1);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            words.of[turn][r] = F::load(matrix, row[r], load);
        }
    }
}

template <int PASS>
struct Sums {
    float of[kRowsAtOnce<PASS>][PASS];
};

template <class F, int TURNS, int ROWS, int PASS>
DEVICE void add_words(const Words<F, TURNS, ROWS>& words, const uint8_t* held, int bytes_each,
                      int columns, int first, int count, Sums<PASS>& sums) {
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int load = first + turn * kWarp + lane_index();
        if (load >= loads_of<F>(columns)) break;
#pragma unroll
        for (int i = 0; i < PASS; ++i) {
            if (i >= count) break;
            const Activations<F> x = {held + i * bytes_each, columns};
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                sums.of[r][i] += dot<F>(words.of[turn][r], x, load);
            }
        }
    }
}

// Whether a load takes few registers: blocks of 256 bring a header.
template <class F>
DEVICE constexpr bool is_small() {
    if constexpr (F::kFloat) {
        return true;
    } else {
        return F::kBlock == 32;
    }
}

// What a warp has under way: of some rows of gate and of up, loads of one or two turns.
template <class G, class U, int PASS>
struct Batch {
    static constexpr int kTurns = PASS == 1 && is_small<G>() && is_small<U>() ? 2 : 1;
    static constexpr int kLoads = kTurns * kWarp;
    Words<G, kTurns, kRowsAtOnce<PASS>> gate;
    Words<U, kTurns, kRowsAtOnce<PASS>> up;

    __device__ __forceinline__ void load(const Halves& part,
                                         const int64_t (&row)[kRowsAtOnce<PASS>], int first) {
        load_words(part.gate, row, first, gate);
        load_words(part.up, row, first, up);
    }
};

// Products of rows whose first batch is loaded already.
template <class G, class U, int PASS>
DEVICE void add_rows(const Halves& part, const int64_t (&row)[kRowsAtOnce<PASS>],
                     const uint8_t* held, int count, Batch<G, U, PASS>& batch, Sums<PASS>& gate,
                     Sums<PASS>& up) {
    const int columns = part.gate.columns, each = held_bytes<G, U>(columns);
    const int loads = max(loads_of<G>(columns), loads_of<U>(columns));
    const uint8_t* const for_gate = held + (G::kFloat ? 0 : rounded_at<G, U>(columns));
    const uint8_t* const for_up = held + (U::kFloat ? 0 : rounded_at<G, U>(columns));
    for (int first = 0; first < loads; first += batch.kLoads) {
        if (first > 0) batch.load(part, row, first);
        add_words(batch.gate, for_gate, each, columns, first, count, gate);
        add_words(batch.up, for_up, each, columns, first, count, up);
    }
}

DEVICE float gated(float gate, float up) {
    return gate / (1 + expf(-gate)) * up;
}

// 32 values of each user into its row of hidden, by eight threads. All threads call it; those
// without a user write the first one's values once more.
template <int PASS>
DEVICE void write_hidden(const Halves& part, const Users& users, int first, int count, int unit,
                         const float (&result)[PASS][kUnitRows]) {
    const int user = static_cast<int>(threadIdx.x) / 8, at = static_cast<int>(threadIdx.x) % 8 * 4;
    const bool active = user < count;
    const float* values = result[active ? user : 0] + at;
    const int64_t row = users.row[first + (active ? user : 0)];
    float* const hidden = part.hidden + row * part.gate.rows;
    if (part.rounded) {
        const float4 four = make_float4(values[0], values[1], values[2], values[3]);
        round_group(Rounded(hidden, part.gate.rows, 0), unit, four);
        return;
    }
    for (int i = 0; i < 4; ++i) {
        const int to = unit * kUnitRows + at + i;
        if (active && to < part.gate.rows) hidden[to] = values[i];
    }
}

template <int PASS>
DEVICE void keep_sums(const Sums<PASS>& gate, const Sums<PASS>& up, int at,
                      float (&result)[PASS][kUnitRows]) {
#pragma unroll
    for (int r = 0; r < kRowsAtOnce<PASS>; ++r) {
#pragma unroll
        for (int i = 0; i < PASS; ++i) {
            const float g = warp_sum(gate.of[r][i]), u = warp_sum(up.of[r][i]);
            if (lane_index() == 0) result[i][at + r] = gated(g, u);
        }
    }
}

// Planes' rows of row `at` of the unit and those behind it. What lies behind the end is not
// written.
template <int ROWS>
DEVICE void rows_at(const Halves& part, int expert, int unit, int at, int64_t (&row)[ROWS]) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        row[r] = expert * part.stride_rows + min(unit * kUnitRows + at + r, part.gate.rows - 1);
    }
}

// Rows 32 unit to 32 unit + 31 of one of the experts here, for its users. All threads of the block
// call it, with the batch of their warp's first rows under way.
template <int PASS, class G, class U>
DEVICE void hidden_unit(const HiddenRecord& record, const Halves& part, int expert, int unit,
                        const Users& users, uint8_t* held, Batch<G, U, PASS>& batch) {
    __shared__ float result[PASS][kUnitRows];
    const int columns = part.gate.columns;
    for (int first = 0; first < users.count; first += PASS) {
        const int count = min(PASS, users.count - first);
        for (int i = 0; i < count; ++i) {
            uint8_t* const to = held + i * held_bytes<G, U>(columns);
            hold<G, U>(record, users.token[first + i], columns, to);
        }
        for (int turn = 0; turn < kRowsOfWarp; turn += kRowsAtOnce<PASS>) {
            const int at = warp_index() * kRowsOfWarp + turn;
            int64_t row[kRowsAtOnce<PASS>];
            rows_at(part, expert, unit, at, row);
            if (first > 0 || turn > 0) batch.load(part, row, 0);
            Sums<PASS> gate = {}, up = {};
            add_rows(part, row, held, count, batch, gate, up);
            keep_sums(gate, up, at, result);
        }
        __syncthreads();
        write_hidden(part, users, first, count, unit, result);
        __syncthreads();
    }
}

// One token: x, as gate and up multiply it.
template <class G, class U, int kFours>
DEVICE void hold_one(const HiddenRecord& record, int columns, RowAheadOf<kFours>& ahead,
                     uint8_t* held) {
    if constexpr (kTakesFloats<G, U>) {
        copy_into<1>(held, record.x, columns, 1, record.norm, record.epsilon);
    }
    if constexpr (kTakesRounded<G, U>) {
        round_one(held + rounded_at<G, U>(columns), record.x, columns, record.norm, record.epsilon,
                  ahead);
    }
}

// One token: 32 values of a unit into row `slot` of hidden, by one warp.
DEVICE void write_unit(const Halves& part, int slot, int unit, const float* result) {
    float* const hidden = part.hidden + static_cast<int64_t>(slot) * part.gate.rows;
    const int lane = lane_index(), at = unit * kUnitRows + lane;
    if (!part.rounded) {
        if (at < part.gate.rows) hidden[at] = result[lane];
        return;
    }
    const float4 four = *reinterpret_cast<const float4*>(result + lane % 8 * 4);
    round_group(Rounded(hidden, part.gate.rows, 0), unit, four);
}

}  // namespace hybrid
