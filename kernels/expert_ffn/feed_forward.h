// Gated feed-forwards of one job, as one list: routed experts, a shared expert, or a dense one.
//
//     round     x of each entry's tokens             one token's: by every worker for itself
//     widen     hidden = silu(gate x) * up x         units are runs of gate and up rows
//     round     hidden                               shared out
//     narrow    out[token] += share * down hidden    units are runs of down rows of all entries
//
// A worker that narrows owns its rows of the output: nothing is summed across workers, and the sum
// of a row has one order whatever the number of workers. Every weight is read once a job.
//
// Under the NUMA policy `shard` an expert is cut into parts, one a node: rows of gate and up,
// columns of down. Each node's workers do that node's parts first, into an output of their own; the
// outputs are added at the end.
#pragma once

#include "pool.h"
#include "product.h"

namespace hybrid {

constexpr int kMaxParts = 16;  // NUMA nodes

// One node's part of some experts, those of the first one; the next expert's lie the strides on.
struct ExpertPart {
    Matrix gate, up, down;
    std::int64_t gate_bytes, up_bytes, down_bytes;
};

// Routed experts at the C border; records.py has the same.
struct Experts {
    std::int32_t parts;
    std::int32_t first, count;  // model-wide number of the first expert here, and how many are here
    std::int32_t used;          // experts a token uses
    ExpertPart part[kMaxParts];
};

// Entries that routed experts can make for some tokens.
inline int most_entries(const Experts& experts, int tokens) {
    const int pairs = tokens * experts.used;
    return (pairs < experts.count ? pairs : experts.count) * experts.parts;
}

// One feed-forward's part and the tokens that go through it.
struct Entry {
    Matrix gate, up, down;
    int part;
    int tokens;
    const int* token;    // [tokens] rows of x and out; null: all of them in order
    const float* share;  // [tokens]; null: ones
    Inputs x, hidden;
    float* hidden_values;  // [tokens][gate.rows]
};

// The list, built alike by every worker from the same arguments, so that nobody waits for it.
class FeedForward {
  public:
    // own, shared   memory of this worker, and of all: each worker has a cursor of its own, and
    //               moves it as the others move theirs
    // x             [tokens][width]
    FeedForward(const Arithmetic& arithmetic, Memory& own, Memory& shared, const float* x,
                std::size_t width, int tokens, int most_entries);

    // Those of `experts` that tokens chose.
    //   chosen, share   [tokens][experts.used], model-wide numbers
    void add(const Experts& experts, const std::int32_t* chosen, const float* share);

    // One that every token goes through, unweighted.
    void add(const Matrix& gate, const Matrix& up, const Matrix& down);

    // Bounds of what routed experts need for some tokens, and one that every token goes through.
    struct Needs {
        std::size_t shared = 0, own = 0;
    };
    static Needs needs(const Arithmetic& arithmetic, const Experts& experts, int tokens);
    static Needs needs(const Arithmetic& arithmetic, const Matrix& gate, const Matrix& up,
                       const Matrix& down, int tokens);

    static constexpr int kTails = 3 + 2 * kMaxParts;
    // Adds the sum to out [tokens][width]. Called by all workers; `tails` are kTails fresh ones.
    void run(Worker& worker, Tail* tails, float* out);

  private:
    void reserve_inputs();
    void fill_inputs(Worker& worker, Tail& tail, bool hidden);
    void widen(Worker& worker, Tail* tails);
    void narrow(Worker& worker, Tail* tails, float* out);
    RowUnits units_of(const Entry& entry) const;
    void widen_units(int part, int begin, int end);
    void widen_rows(const Entry& entry, int begin, int end);
    void narrow_rows(int part, int begin, int end, float* out);
    void add_parts(const Worker& worker, Tail& tail, float* out) const;

    const Arithmetic& arithmetic_;
    Memory& own_;
    Memory& shared_;
    const float* x_;
    std::size_t width_;
    int tokens_;
    int most_tokens_ = 0;  // of an entry
    int parts_ = 1;
    bool routed_ = false;
    Entry* entries_;
    int count_ = 0;
    float* part_outputs_ = nullptr;  // [parts][tokens][width], with more than one part
};

}  // namespace hybrid
