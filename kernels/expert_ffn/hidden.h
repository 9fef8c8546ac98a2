// One unit of expert_hidden: 32 rows of gate and up, times the normed activations of some tokens.
#pragma once

#include "expert_ffn/products.h"
#include "expert_ffn/users.h"

namespace hybrid {

constexpr int kUnitRows = 32;
constexpr int kRowsAtOnce = 2;  // of gate and of up, by a warp

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

template <class F>
struct Words {
    typename F::Raw of[kRowsAtOnce];
};

template <class F>
DEVICE void load_words(const Matrix& matrix, const int64_t (&row)[kRowsAtOnce], int load,
                       Words<F>& words) {
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) words.of[r] = F::load(matrix, row[r], load);
}

template <int PASS>
struct Sums {
    float of[kRowsAtOnce][PASS];
};

template <class F, int PASS>
DEVICE void add_words(const Words<F>& words, const uint8_t* held, int bytes_each, int columns,
                      int load, int count, Sums<PASS>& sums) {
#pragma unroll
    for (int i = 0; i < PASS; ++i) {
        if (i >= count) break;
        const Activations<F> x = {held + i * bytes_each, columns};
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) sums.of[r][i] += dot<F>(words.of[r], x, load);
    }
}

// Loads `load` and one turn of the warp later, before either is multiplied.
template <class F, int PASS>
DEVICE void add_rows(const Matrix& matrix, const int64_t (&row)[kRowsAtOnce], const uint8_t* held,
                     int bytes_each, int count, Sums<PASS>& sums) {
    const int columns = matrix.columns, loads = loads_of<F>(columns);
    int load = lane_index();
    for (; load + kWarp < loads; load += 2 * kWarp) {
        Words<F> words[2];
        load_words(matrix, row, load, words[0]);
        load_words(matrix, row, load + kWarp, words[1]);
        add_words(words[0], held, bytes_each, columns, load, count, sums);
        add_words(words[1], held, bytes_each, columns, load + kWarp, count, sums);
    }
    if (load < loads) {
        Words<F> words;
        load_words(matrix, row, load, words);
        add_words(words, held, bytes_each, columns, load, count, sums);
    }
}

// The same of gate and up at once, where both have as many loads.
template <class G, class U, int PASS>
DEVICE void add_pairs(const Halves& part, const int64_t (&row)[kRowsAtOnce], const uint8_t* held,
                      int count, Sums<PASS>& gate, Sums<PASS>& up) {
    const int columns = part.gate.columns, each = held_bytes<G, U>(columns);
    const uint8_t* const for_gate = held + (G::kFloat ? 0 : rounded_at<G, U>(columns));
    const uint8_t* const for_up = held + (U::kFloat ? 0 : rounded_at<G, U>(columns));
    if constexpr (G::kUnit != U::kUnit) {
        add_rows<G>(part.gate, row, for_gate, each, count, gate);
        add_rows<U>(part.up, row, for_up, each, count, up);
    } else {
        constexpr int kTurns = PASS == 1 ? 2 : 1;  // loads of a row under way in a lane
        const int loads = loads_of<G>(columns);
        int load = lane_index();
        for (; load + (kTurns - 1) * kWarp < loads; load += kTurns * kWarp) {
            Words<G> of_gate[kTurns];
            Words<U> of_up[kTurns];
#pragma unroll
            for (int turn = 0; turn < kTurns; ++turn) {
                load_words(part.gate, row, load + turn * kWarp, of_gate[turn]);
                load_words(part.up, row, load + turn * kWarp, of_up[turn]);
            }
#pragma unroll
            for (int turn = 0; turn < kTurns; ++turn) {
                const int at = load + turn * kWarp;
                add_words(of_gate[turn], for_gate, each, columns, at, count, gate);
                add_words(of_up[turn], for_up, each, columns, at, count, up);
            }
        }
        for (; load < loads; load += kWarp) {
            Words<G> of_gate;
            Words<U> of_up;
            load_words(part.gate, row, load, of_gate);
            load_words(part.up, row, load, of_up);
            add_words(of_gate, for_gate, each, columns, load, count, gate);
            add_words(of_up, for_up, each, columns, load, count, up);
        }
    }
}

DEVICE float gated(float gate, float up) {
    return gate / (1 + expf(-gate)) * up;
}

// 32 values of each user into its row of hidden, by eight threads. All threads call it.
template <int PASS>
DEVICE void write_hidden(const Halves& part, const Users& users, int first, int count, int unit,
                         const float (&result)[PASS][kUnitRows]) {
    const int user = static_cast<int>(threadIdx.x) / 8, at = static_cast<int>(threadIdx.x) % 8 * 4;
    const bool active = user < count;
    const float* values = result[active ? user : 0] + at;
    const int64_t row = active ? users.row[first + user] : 0;
    float* const hidden = part.hidden + row * part.gate.rows;
    if (part.rounded) {
        const float4 four = make_float4(values[0], values[1], values[2], values[3]);
        round_group(Rounded(hidden, part.gate.rows, 0), unit, four, active);
        return;
    }
    for (int i = 0; i < 4; ++i) {
        const int to = unit * kUnitRows + at + i;
        if (active && to < part.gate.rows) hidden[to] = values[i];
    }
}

// Rows 32 unit to 32 unit + 31 of one of the experts here. All threads of the block call it.
template <int PASS, class G, class U>
DEVICE void hidden_unit(const HiddenRecord& record, const Halves& part, int expert, int unit,
                        const Users& users, uint8_t* held) {
    __shared__ float result[PASS][kUnitRows];
    constexpr int kOfWarp = kUnitRows / kWarps;
    const int columns = part.gate.columns;
    for (int first = 0; first < users.count; first += PASS) {
        const int count = min(PASS, users.count - first);
        for (int i = 0; i < count; ++i) {
            uint8_t* const to = held + i * held_bytes<G, U>(columns);
            hold<G, U>(record, users.token[first + i], columns, to);
        }
        for (int turn = 0; turn < kOfWarp; turn += kRowsAtOnce) {
            const int at = warp_index() * kOfWarp + turn;
            int64_t row[kRowsAtOnce];
#pragma unroll
            for (int r = 0; r < kRowsAtOnce; ++r) {  // what lies behind the end is not written
                row[r] =
                    expert * part.stride_rows + min(unit * kUnitRows + at + r, part.gate.rows - 1);
            }
            Sums<PASS> gate = {}, up = {};
            add_pairs<G, U>(part, row, held, count, gate, up);
#pragma unroll
            for (int r = 0; r < kRowsAtOnce; ++r) {
#pragma unroll
                for (int i = 0; i < PASS; ++i) {
                    const float g = warp_sum(gate.of[r][i]), u = warp_sum(up.of[r][i]);
                    if (lane_index() == 0) result[i][at + r] = gated(g, u);
                }
            }
        }
        __syncthreads();
        write_hidden(part, users, first, count, unit, result);
        __syncthreads();
    }
}

}  // namespace hybrid
