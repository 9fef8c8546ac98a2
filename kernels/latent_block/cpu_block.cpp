// A pass over one block. Every worker runs `Phases` from top to bottom; a barrier stands between a
// phase that writes and one that reads what others wrote.
//
// One token: what is small (norms, rounding, the router's choice) every worker does for itself in
// its own memory, because a barrier costs more. Several tokens: it is shared out by token.

#include "block.h"
#include "library.h"

namespace hybrid {
namespace {

constexpr int kUnitRows = 32;  // rows of a matrix in a unit of work
constexpr int kTails = 16 + FeedForward::kTails;
constexpr int kSplitRows = 256;  // cache rows below which a context is not split further

struct BlockJob {
    const LatentBlock& block;
    const BlockPass& pass;
    const Functions& tier;
    Tail tails[kTails];
    std::size_t shared_used = 0;
};

struct Rest {
    const Matrix* matrix;
    float* out;
};

class Phases {
public:
    Phases(Worker& worker, BlockJob& job)
        : worker_(worker),
          job_(job),
          b_(job.block),
          pass_(job.pass),
          tier_(job.tier),
          own_(worker.scratch, worker.scratch_bytes),
          shared_(pass_.workspace, static_cast<std::size_t>(pass_.workspace_bytes)),
          tokens_(static_cast<std::size_t>(pass_.tokens)) {}

    void run() {
        const float* heads_out = attend();
        project(heads_out);
        feed_forward();
    }

private:
    Tail& tail() { return job_.tails[next_tail_++]; }
    bool alone() const { return pass_.tokens == 1; }
    Memory& near() { return alone() ? own_ : shared_; }
    std::size_t head_key() const { return static_cast<std::size_t>(b_.nope + b_.rope); }
    std::size_t cache_width() const { return static_cast<std::size_t>(b_.latent + b_.rope); }
    const float* cosine(std::size_t t) const { return pass_.cosine + t * (b_.rope / 2); }
    const float* sine(std::size_t t) const { return pass_.sine + t * (b_.rope / 2); }

    // run(begin, end) over all tokens: by this worker for itself, or by all together.
    template <class Run>
    void each_token(const Run& run) {
        if (alone()) return run(0, 1);
        share(worker_, tail(), pass_.tokens, 1, run);
        worker_.barrier();
    }

    // Normalised rows of x, rounded for `matrices`; ready when this returns.
    Inputs normalised(const float* x, std::size_t width, const float* weight, const Forms& forms) {
        auto* rows = near().take<float>(tokens_ * width);
        Inputs inputs{rows, width, nullptr, width, pass_.tokens};
        inputs.reserve(near(), forms);
        each_token([&](int begin, int end) {
            for (int t = begin; t < end; ++t) {
                const std::size_t at = static_cast<std::size_t>(t) * width;
                tier_.floats.rms_norm(x + at, weight, width, b_.epsilon, rows + at);
            }
            inputs.fill(tier_, begin, end);
        });
        return inputs;
    }

    // All rows of one or two matrices, shared out; the caller puts the barrier.
    void multiply_all(const Inputs& inputs, const Matrix& first, float* first_out,
                      const Matrix& second, float* second_out) {
        const int units = (first.rows + kUnitRows - 1) / kUnitRows;
        const int more = second.present() ? (second.rows + kUnitRows - 1) / kUnitRows : 0;
        share(worker_, tail(), units + more, 1, [&](int begin, int end) {
            rows_of_units(inputs, first, first_out, begin, end < units ? end : units);
            if (more) {
                rows_of_units(inputs, second, second_out, begin < units ? 0 : begin - units,
                              end - units);
            }
        });
    }

    void rows_of_units(const Inputs& inputs, const Matrix& matrix, float* out, int begin,
                       int end) {
        if (begin >= end) return;
        const int last = end * kUnitRows < matrix.rows ? end * kUnitRows : matrix.rows;
        multiply(tier_, matrix, begin * kUnitRows, last, inputs,
                 {out, static_cast<std::size_t>(matrix.rows)});
    }

    // [tokens][heads * value]
    const float* attend() {
        float* kv = shared_.take<float>(tokens_ * cache_width());
        const float* queries = project_queries(kv);
        write_cache(kv);
        return pass_.tokens <= b_.absorb_up_to ? absorbed(queries) : expanded(queries);
    }

    float* project_queries(float* kv) {
        const auto query_rows = static_cast<std::size_t>(b_.query.rows);
        auto* queries = shared_.take<float>(tokens_ * query_rows);
        Forms forms;
        forms.add(tier_, b_.compress);
        if (!b_.query_latent) {
            forms.add(tier_, b_.query);
            const Inputs x = normalised(pass_.hidden, b_.width, b_.attention_norm, forms);
            multiply_all(x, b_.query, queries, b_.compress, kv);
            worker_.barrier();
            return queries;
        }
        forms.add(tier_, b_.query_down);
        auto* low = shared_.take<float>(tokens_ * static_cast<std::size_t>(b_.query_latent));
        const Inputs x = normalised(pass_.hidden, b_.width, b_.attention_norm, forms);
        multiply_all(x, b_.query_down, low, b_.compress, kv);
        worker_.barrier();
        Forms up;
        up.add(tier_, b_.query);
        const Inputs from = normalised(low, b_.query_latent, b_.query_norm, up);
        multiply_all(from, b_.query, queries, Matrix{}, nullptr);
        worker_.barrier();
        return queries;
    }

    // The caller's next barrier makes the rows seen by all.
    void write_cache(float* kv) {
        share(worker_, tail(), pass_.tokens, 1, [&](int begin, int end) {
            for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
                float* row = kv + t * cache_width();
                tier_.floats.rms_norm(row, b_.latent_norm, b_.latent, b_.epsilon, row);
                tier_.floats.rotate(row + b_.latent, 1, b_.rope, b_.rope, cosine(t), sine(t));
                tier_.floats.write_cache_row(
                    pass_.cache.format, row, cache_width(),
                    static_cast<std::byte*>(pass_.cache.first) +
                        (static_cast<std::size_t>(pass_.start) + t) *
                            static_cast<std::size_t>(pass_.cache.row_bytes));
            }
        });
    }

    Matrix head_of(const HeadMatrices& heads, int head) const {
        Matrix one = heads.first;
        one.blocks = static_cast<const std::uint8_t*>(one.blocks) + head * heads.head_bytes;
        return one;
    }

    // Queries move into the latent's space, attend there, and come back.
    const float* absorbed(const float* queries);
    const float* expanded(const float* queries);

    void project(const float* heads_out) {
        const auto columns = static_cast<std::size_t>(b_.output.columns);
        Inputs inputs{heads_out, columns, nullptr, columns, pass_.tokens};
        Forms forms;
        forms.add(tier_, b_.output);
        inputs.reserve(near(), forms);
        each_token([&](int begin, int end) { inputs.fill(tier_, begin, end); });
        const int units = (b_.width + kUnitRows - 1) / kUnitRows;
        share(worker_, tail(), units, 1, [&](int begin, int end) {
            for (int unit = begin; unit < end; ++unit) add_output_rows(inputs, unit * kUnitRows);
        });
        worker_.barrier();
    }

    void add_output_rows(const Inputs& inputs, int row) {
        const int last = row + kUnitRows < b_.width ? row + kUnitRows : b_.width;
        Memory scratch = own_;
        auto* y = scratch.take<float>(tokens_ * kUnitRows);
        multiply(tier_, b_.output, row, last, inputs, {y - row, kUnitRows});
        for (std::size_t t = 0; t < tokens_; ++t) {
            float* h = pass_.hidden + t * static_cast<std::size_t>(b_.width);
            for (int r = row; r < last; ++r) h[r] += y[t * kUnitRows + (r - row)];
        }
    }

    void feed_forward() {
        const auto width = static_cast<std::size_t>(b_.width);
        Forms none;
        none.plain = true;
        const Inputs x =
            normalised(pass_.hidden, width, b_.feed_forward_norm, none);
        Tail* tails = job_.tails + 16;
        const int most = b_.router.present()
                             ? (b_.rules.used * pass_.tokens < b_.experts.count
                                    ? b_.rules.used * pass_.tokens
                                    : b_.experts.count) *
                                       b_.experts.parts +
                                   1
                             : 1;
        if (!b_.router.present()) {
            FeedForward dense(tier_, own_, shared_, x.x, width, pass_.tokens, most);
            dense.add(b_.gate, b_.up, b_.down);
            return dense.run(worker_, tails, pass_.hidden);
        }
        const auto experts = static_cast<std::size_t>(b_.rules.experts);
        const auto pairs = tokens_ * static_cast<std::size_t>(b_.rules.used);
        auto* logits = shared_.take<float>(tokens_ * experts);
        auto* chosen = near().take<std::int64_t>(pairs);
        auto* weight = near().take<float>(pairs);
        multiply_all(x, b_.router, logits, Matrix{}, nullptr);
        worker_.barrier();
        each_token([&](int begin, int end) {
            for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
                const std::size_t at = t * static_cast<std::size_t>(b_.rules.used);
                choose_experts(b_.rules, logits + t * experts, b_.router_bias, chosen + at,
                               weight + at);
            }
        });
        FeedForward mixture(tier_, own_, shared_, x.x, width, pass_.tokens, most);
        mixture.add(b_.experts, chosen, weight);
        if (b_.gate.present()) mixture.add(b_.gate, b_.up, b_.down);
        mixture.run(worker_, tails, pass_.hidden);
    }

    Worker& worker_;
    BlockJob& job_;
    const LatentBlock& b_;
    const BlockPass& pass_;
    const Functions& tier_;
    Memory own_, shared_;
    std::size_t tokens_;
    int next_tail_ = 0;
};

}  // namespace
}  // namespace hybrid
