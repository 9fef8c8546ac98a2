// The router as one launch: logits = gate · rms_norm(h), then the rules of rules.py.
//
// A block takes ROWS experts for all tokens, its threads share out the columns, so that a weight is
// read once and no activation twice: the norm's factor of a token is taken out of the sums, and its
// sum of squares comes from the same pass. The last block to arrive chooses, one warp for a token.
#include "cuda/device.h"
#include "mailbox/mailbox.h"
#include "planar/formats.h"
#include "router/choose.h"

namespace hybrid {

constexpr int kMostWarps = 16;
constexpr int kHeld = 2;  // chunks of weights a thread has in flight

struct RouteRecord {
    Matrix gate;        // [experts, width]
    const float* h;     // [tokens, width]
    const float* norm;  // [width]
    float* logits;      // [tokens, experts]
    int32_t* counter;   // [1], zero before and after
    Rules rules;
    Choice choice;
    Mailbox mailbox;
    float epsilon;
    int32_t tokens;
};

// WIDE consecutive weights of a row: one load of a plain float, or 32 decoded ones. Behind the
// row's end zeros.
template <class G, int WIDE>
DEVICE void weights_at(const Matrix& gate, int64_t row, int chunk, float (&w)[WIDE]) {
    if constexpr (G::kFloat) {
        G::decode(G::load(gate, row, chunk), w);
    } else {
        weights_of(G::load32(gate, row, chunk), w);
    }
}

template <int ROWS, int WIDE>
struct Weights {
    float of[kHeld][ROWS][WIDE];
};

template <class G, int ROWS, int WIDE>
DEVICE void load_rows(const Matrix& gate, int first_expert, int first_chunk,
                      Weights<ROWS, WIDE>& weights) {
    const int chunks = (gate.columns + WIDE - 1) / WIDE;
#pragma unroll
    for (int held = 0; held < kHeld; ++held) {
        const int chunk = first_chunk + held * static_cast<int>(blockDim.x);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int expert = first_expert + r;
            if (chunk < chunks && expert < gate.rows) {
                weights_at<G, WIDE>(gate, expert, chunk, weights.of[held][r]);
            } else {
                for (float& w : weights.of[held][r]) w = 0;
            }
        }
    }
}

// Per token: ROWS products with norm * h, then the sum of squares of h.
template <int TOKENS, int ROWS>
struct Sums {
    float of[TOKENS][ROWS + 1];
};

// Values `first` to first + 3 of a row, zeros behind its end.
DEVICE float4 four_of(const float* row, int first, int columns) {
    if (columns % 4 == 0 && first < columns) return reinterpret_cast<const float4*>(row)[first / 4];
    return make_float4(first < columns ? row[first] : 0, first + 1 < columns ? row[first + 1] : 0,
                       first + 2 < columns ? row[first + 2] : 0,
                       first + 3 < columns ? row[first + 3] : 0);
}

template <int TOKENS, int ROWS, int WIDE>
DEVICE void add_chunk(const RouteRecord& record, const float (&w)[ROWS][WIDE], int chunk,
                      Sums<TOKENS, ROWS>& sums) {
    const int width = record.gate.columns;
#pragma unroll
    for (int i = 0; i < WIDE; i += 4) {
        const int first = chunk * WIDE + i;
        const float4 norm = four_of(record.norm, first, width);
#pragma unroll
        for (int t = 0; t < TOKENS; ++t) {
            if (t >= record.tokens) break;
            const float4 h = four_of(record.h + static_cast<int64_t>(t) * width, first, width);
            sums.of[t][ROWS] += h.x * h.x + h.y * h.y + h.z * h.z + h.w * h.w;
            const float4 x = make_float4(h.x * norm.x, h.y * norm.y, h.z * norm.z, h.w * norm.w);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                sums.of[t][r] +=
                    w[r][i] * x.x + w[r][i + 1] * x.y + w[r][i + 2] * x.z + w[r][i + 3] * x.w;
            }
        }
    }
}

// Leaves each warp's sums where all can read them.
template <int TOKENS, int ROWS>
DEVICE void sum_block(Sums<TOKENS, ROWS>& sums, Sums<TOKENS, ROWS> (&of_warp)[kMostWarps]) {
#pragma unroll
    for (int t = 0; t < TOKENS; ++t) {
#pragma unroll
        for (int r = 0; r <= ROWS; ++r) {
            const float sum = warp_sum(sums.of[t][r]);
            if (lane_index() == 0) of_warp[warp_index()].of[t][r] = sum;
        }
    }
    __syncthreads();
}

template <int TOKENS, int ROWS>
DEVICE float sum_of_warps(const Sums<TOKENS, ROWS> (&of_warp)[kMostWarps], int t, int r) {
    float sum = 0;
    for (int warp = 0; warp < warps_of_block(); ++warp) sum += of_warp[warp].of[t][r];
    return sum;
}

template <int TOKENS, int ROWS>
DEVICE float norm_factor(const RouteRecord& record, const Sums<TOKENS, ROWS> (&of_warp)[kMostWarps],
                         int t) {
    const float squares = sum_of_warps(of_warp, t, ROWS);
    return rsqrtf(squares / static_cast<float>(record.gate.columns) + record.epsilon);
}

// This block's stretches of rms_norm(h).
template <int TOKENS, int ROWS>
DEVICE void post_normed(const RouteRecord& record, const Sums<TOKENS, ROWS> (&of_warp)[kMostWarps],
                        uint32_t number) {
    post_columns(record.mailbox, record.tokens, number, [&](int t, int column) {
        const int64_t at = static_cast<int64_t>(t) * record.gate.columns + column;
        return record.h[at] * norm_factor(record, of_warp, t) * record.norm[column];
    });
}

// Whether it PUBLISHes what it chose is known when the graph is captured.
template <int TOKENS, int ROWS, bool PUBLISH, class G>
__global__ void __launch_bounds__(kMostWarps* kWarp, 1) route(const RouteRecord record) {
    __shared__ Sums<TOKENS, ROWS> of_warp[kMostWarps];
    __shared__ Scores scores[TOKENS];
    const int experts = record.gate.rows, threads = static_cast<int>(blockDim.x);
    const int chunks = (record.gate.columns + G::kUnit - 1) / G::kUnit;
    const int first_expert = static_cast<int>(blockIdx.x) * ROWS;
    Weights<ROWS, G::kUnit> weights;
    Sums<TOKENS, ROWS> sums = {};
    int first = static_cast<int>(threadIdx.x);
    load_rows<G>(record.gate, first_expert, first, weights);
    for (int line = threadIdx.x; line * 32 < record.gate.columns; line += threads)
        prefetch_line(record.norm + 32 * line);
    wait_for_previous();
    let_next_start();
    while (first < chunks) {
#pragma unroll
        for (int held = 0; held < kHeld; ++held) {
            const int chunk = first + held * threads;
            if (chunk < chunks) add_chunk(record, weights.of[held], chunk, sums);
        }
        first += kHeld * threads;
        if (first < chunks) load_rows<G>(record.gate, first_expert, first, weights);
    }
    sum_block(sums, of_warp);
    const int t = static_cast<int>(threadIdx.x) / ROWS, r = static_cast<int>(threadIdx.x) % ROWS;
    if (t < record.tokens && first_expert + r < experts) {
        const float logit = norm_factor(record, of_warp, t) * sum_of_warps(of_warp, t, r);
        record.logits[t * experts + first_expert + r] = logit;
    }
    const uint32_t number = PUBLISH ? next_crossing(record.mailbox) : 0;
    const bool chooses = last_to_arrive(record.counter, static_cast<int>(gridDim.x));
    // Only now: an arrival waits for what the block wrote before it, over PCIe for long.
    if constexpr (PUBLISH) post_normed(record, of_warp, number);
    if (!chooses) return;
    for (int token = warp_index(); token < record.tokens; token += warps_of_block()) {
        const Chosen chosen = choose_experts(record.rules, record.choice,
                                             record.logits + token * experts, token, scores[token]);
        const int used = record.mailbox.used, lane = lane_index();
        if (PUBLISH && lane < used)
            post_choice(record.mailbox, token * used + lane, chosen.expert, chosen.share, number);
    }
    if (PUBLISH && threadIdx.x == 0) published(record.mailbox, number);
}

struct ChooseRecord {
    const float* logits;  // [tokens, experts]
    Rules rules;
    Choice choice;
};

// Logits that are there already: a warp, which is a block, for each token.
template <int THREADS>
__global__ void __launch_bounds__(THREADS) choose(const ChooseRecord record) {
    __shared__ Scores scores;
    wait_for_previous();
    let_next_start();
    const int token = static_cast<int>(blockIdx.x);
    const float* logits = record.logits + static_cast<int64_t>(token) * record.rules.experts;
    choose_experts(record.rules, record.choice, logits, token, scores);
}

}  // namespace hybrid
