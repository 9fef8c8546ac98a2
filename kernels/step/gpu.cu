// Both ends of a decode step. The beginning copies the step's inputs out of host memory that the
// GPU reads over the bus; the end finds each token's greatest logit, a block for a piece of the
// vocabulary, and the last block of a token to arrive compares the pieces.
#include "cuda/device.h"

namespace hybrid {

struct BeginRecord {
    const float* hidden;  // [tokens, width], host
    const int32_t* positions;
    const int64_t* rows;
    const int32_t* seen;
    float* hidden_to;  // the same on the device
    int32_t* positions_to;
    int64_t* rows_to;
    int32_t* seen_to;
    int32_t values;  // tokens · width
    int32_t tokens;
};

// The host's memory is read before the wait: the CPU wrote it before the launch, kernels never do.
// A thread's reads are all on their way before the first is used.
template <int THREADS, int EACH>
__global__ void begin_step(const BeginRecord record) {
    const int first = static_cast<int>(blockIdx.x) * THREADS * EACH + threadIdx.x;
    float value[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int at = first + i * THREADS;
        value[i] = at < record.values ? record.hidden[at] : 0.0f;
    }
    const int token = threadIdx.x;
    const bool has_token = blockIdx.x == 0 && token < record.tokens;
    const int32_t position = has_token ? record.positions[token] : 0;
    const int64_t row = has_token ? record.rows[token] : 0;
    const int32_t seen = has_token ? record.seen[token] : 0;
    wait_for_previous();
    let_next_start();
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int at = first + i * THREADS;
        if (at < record.values) record.hidden_to[at] = value[i];
    }
    if (has_token) {
        record.positions_to[token] = position;
        record.rows_to[token] = row;
        record.seen_to[token] = seen;
    }
}

struct ArgmaxRecord {
    const float* logits;  // [tokens, vocabulary]
    uint64_t* best;       // [tokens, parts]
    int32_t* counters;    // [tokens], zero before and after
    int32_t* index;       // [tokens]
    float* value;
    int32_t* host_index;  // null: nobody on the host asks
    float* host_value;
    int32_t vocabulary;
};

// Orders as the logits do, the lower index first among equals; a NaN comes before all numbers, so
// that it is not passed over.
DEVICE uint64_t argmax_key(float logit, int index) {
    const uint32_t bits = float_bits(logit + 0.0f);  // -0 equals 0
    const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
    const uint32_t rank = 0xffffffffu - static_cast<uint32_t>(index);
    return static_cast<uint64_t>(logit == logit ? order : 0xffffffffu) << 32 | rank;
}

DEVICE void write_greatest(const ArgmaxRecord& record, int token, uint64_t key) {
    const uint32_t order = static_cast<uint32_t>(key >> 32);
    const int index = static_cast<int>(0xffffffffu - static_cast<uint32_t>(key));
    const bool unknown = order == 0xffffffffu;
    const uint32_t bits = order >> 31 ? order & 0x7fffffffu : ~order;
    const float value = bits_float(unknown ? 0x7fc00000u : bits);  // the usual NaN
    record.index[token] = index;
    record.value[token] = value;
    if (record.host_index != nullptr) {
        record.host_index[token] = index;
        record.host_value[token] = value;
    }
}

// Grid: parts, tokens.
template <int THREADS, int EACH>
__global__ void argmax(const ArgmaxRecord record) {
    const int token = blockIdx.y, part = blockIdx.x, parts = gridDim.x;
    const float* logits = record.logits + static_cast<int64_t>(token) * record.vocabulary;
    uint64_t* best_of_parts = record.best + static_cast<int64_t>(token) * parts;
    const int first = part * THREADS * EACH + static_cast<int>(threadIdx.x);
    wait_for_previous();
    let_next_start();
    float logit[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int at = first + i * THREADS;
        logit[i] = at < record.vocabulary ? logits[at] : 0.0f;
    }
    uint64_t best = 0;
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int at = first + i * THREADS;
        const uint64_t key = at < record.vocabulary ? argmax_key(logit[i], at) : 0;
        best = key > best ? key : best;
    }
    best = block_max(best);
    if (threadIdx.x == 0) best_of_parts[part] = best;
    if (!last_to_arrive(record.counters + token, parts)) return;
    best = 0;
    for (int at = threadIdx.x; at < parts; at += THREADS)
        best = best_of_parts[at] > best ? best_of_parts[at] : best;
    best = block_max(best);
    if (threadIdx.x == 0) write_greatest(record, token, best);
}

}  // namespace hybrid
