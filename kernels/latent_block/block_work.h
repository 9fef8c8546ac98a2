// What every phase of a block works with: one worker's view of a pass.
//
// Every worker runs all phases from top to bottom; a barrier stands between a phase that writes and
// one that reads what others wrote.
//
// One token: what is small (norms, rounding, the router's choice) every worker does for itself in
// its own memory, because a barrier costs more. Several tokens: it is shared out by token.
#pragma once

#include "block.h"
#include "product_job.h"
#include "wait.h"

namespace hybrid {

constexpr std::int32_t kF32 = 0;  // ggml id

inline int least(int a, int b) {
    return a < b ? a : b;
}

inline Matrix head_of(const HeadMatrices& heads, int head) {
    Matrix one = heads.first;
    one.blocks = static_cast<const std::uint8_t*>(one.blocks) + head * heads.head_bytes;
    return one;
}

// What is handed out in one block.
struct BlockTails {
    static constexpr int kPhases = 16;  // more than there are before the feed-forward

    Tail phases[kPhases];
    Tail feed_forward[FeedForward::kTails];

    void reset() {
        for (Tail& tail : phases) tail.next.store(0, std::memory_order_relaxed);
        for (Tail& tail : feed_forward) tail.next.store(0, std::memory_order_relaxed);
    }
};

// While workers are in one block, the tails of the one before are made ready for the next.
struct BlocksJob {
    const LatentBlock* const* blocks;
    const CacheRows* caches;
    int count;
    BlockPass pass;
    Arithmetic arithmetic;
    BlockTails tails[2]{};
};

class BlockWork {
  public:
    BlockWork(Worker& of, BlocksJob& job, int number)
        : worker(of),
          block(*job.blocks[number]),
          cache(job.caches[number]),
          pass(job.pass),
          arithmetic(job.arithmetic),
          tier(job.arithmetic.tier),
          own(of.scratch, of.scratch_bytes),
          shared(pass.workspace, static_cast<std::size_t>(pass.workspace_bytes)),
          tokens(static_cast<std::size_t>(pass.tokens)),
          number_(number),
          next_tail_(job.tails[number % 2].phases),
          last_tail_(next_tail_ + BlockTails::kPhases) {}

    // Writes a mark of the pass: 0 its beginning, 1 this block's attention is done, 2 its end.
    void mark(int which) const {
        if (pass.marks && worker.index == 0) pass.marks[2 * number_ + which] = now_ns();
    }
    // This block's row of expert usage; null where nobody asks, and on all workers but one.
    std::int64_t* usage() const {
        return pass.usage && worker.index == 0 ? pass.usage + number_ * pass.usage_experts
                                               : nullptr;
    }

    Tail& tail() {
        if (next_tail_ == last_tail_) throw std::logic_error("a block has more phases than tails");
        return *next_tail_++;
    }
    bool alone() const { return pass.tokens == 1; }
    Memory& near() { return alone() ? own : shared; }
    RowUnits units_of(const Matrix& matrix) const { return {matrix.rows, pass.tokens}; }
    int seen() const { return pass.start + pass.tokens; }
    std::size_t head_key() const { return static_cast<std::size_t>(block.nope + block.rope); }
    std::size_t cache_width() const { return static_cast<std::size_t>(block.latent + block.rope); }

    // run(begin, end) over units that this worker does all of for itself when there is one token,
    // and its part of otherwise; what they make can be read when this returns.
    template <class Run>
    void each(int units, const Run& run) {
        if (alone()) return run(0, units);
        share(worker, tail(), units, run);
        worker.barrier();
    }

    // Inputs without values yet, for normalise().
    Inputs fresh_inputs(std::size_t width) {
        return Inputs({near().take<float>(tokens * width), width, width, nullptr, pass.tokens});
    }

    // Fills fresh inputs with the normalised rows of x.
    void normalise(const float* x, const float* weight, const Inputs& inputs);

    // All rows of one or two matrices, shared out; the caller puts the barrier.
    void multiply_all(const Inputs& inputs, const Matrix& first, float* first_out,
                      const Matrix& second = {}, float* second_out = nullptr);

    // The rope values of a row, of the pass's token t.
    void rotate(float* values, int t) const {
        const int half = block.rope / 2;
        tier.floats.rotate(values, 1, 0, static_cast<std::size_t>(block.rope),
                           pass.cosine + t * half, pass.sine + t * half);
    }

    Worker& worker;
    const LatentBlock& block;
    const CacheRows& cache;
    const BlockPass& pass;
    const Arithmetic& arithmetic;
    const Functions& tier;
    Memory own, shared;
    std::size_t tokens;

  private:
    void multiply_units(const Inputs& inputs, const Matrix& matrix, float* out, int begin, int end);

    const int number_;
    Tail* next_tail_;
    Tail* last_tail_;
};

}  // namespace hybrid
