// A pass over one block. Every worker runs `Phases` from top to bottom; a barrier stands between a
// phase that writes and one that reads what others wrote.
//
// One token: what is small (norms, rounding, the router's choice) every worker does for itself in
// its own memory, because a barrier costs more. Several tokens: it is shared out by token.

#include <cstring>
#include <initializer_list>

#include "block.h"
#include "product_job.h"

namespace hybrid {
namespace {

constexpr int kUnitRows = 32;  // rows of a matrix in a unit of work
constexpr int kTails = 16;     // phases of a block before the feed-forward
constexpr int kFewTokens = 4;
constexpr int kSplitRows = 256;       // cache rows below which a context is not split further
constexpr std::int32_t kF32 = 0;      // ggml id
constexpr int kExpandedRows = 16384;  // beyond, keys and values of one head would fill the memory

struct BlockJob {
    const LatentBlock& block;
    const BlockPass& pass;
    Arithmetic arithmetic;
    Tail tails[kTails];
    Tail feed_forward_tails[FeedForward::kTails];
};

// How absorbed attention is cut: runs of cache rows times groups of heads.
struct Splits {
    int rows, groups;
    int heads;            // of a group; the last one may have fewer
    std::size_t queries;  // of a group
    std::size_t value_row;

    std::size_t unit_values() const { return queries * (value_row + 2); }
    std::size_t partial_values() const {
        return static_cast<std::size_t>(rows * groups) * unit_values();
    }
    PartialAttention partial(float* all, int unit) const {
        float* first = all + static_cast<std::size_t>(unit) * unit_values();
        return {first + queries * value_row, first + queries * (value_row + 1), first, value_row};
    }
};

int least(int a, int b) {
    return a < b ? a : b;
}

class Phases {
  public:
    Phases(Worker& worker, BlockJob& job)
        : worker_(worker),
          job_(job),
          b_(job.block),
          pass_(job.pass),
          arithmetic_(job.arithmetic),
          tier_(job.arithmetic.tier),
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
    int seen() const { return pass_.start + pass_.tokens; }
    const float* cosine(int t) const { return pass_.cosine + t * (b_.rope / 2); }
    const float* sine(int t) const { return pass_.sine + t * (b_.rope / 2); }

    // run(begin, end) over units that this worker does all of for itself when there is one token,
    // and its part of otherwise; what they make can be read when this returns.
    template <class Run>
    void each(int units, const Run& run) {
        if (alone()) return run(0, units);
        share(worker_, tail(), units, 1, run);
        worker_.barrier();
    }

    // Fills inputs made of normalised rows of x.
    void normalise(const float* x, const float* weight, const Inputs& inputs) {
        auto* rows = const_cast<float*>(inputs.x().first);
        const std::size_t width = inputs.x().columns;
        each(inputs.pieces(), [&](int begin, int end) {
            for (int t = begin * kTokenTile; t < least(end * kTokenTile, pass_.tokens); ++t) {
                const std::size_t at = static_cast<std::size_t>(t) * width;
                tier_.floats.rms_norm(x + at, weight, width, b_.epsilon, rows + at);
            }
            inputs.fill(tier_, begin, end);
        });
    }

    Inputs fresh_inputs(std::size_t width) {
        return Inputs({near().take<float>(tokens_ * width), width, width, nullptr, pass_.tokens});
    }

    // All rows of one or two matrices, shared out; the caller puts the barrier.
    void multiply_all(const Inputs& inputs, const Matrix& first, float* first_out,
                      const Matrix& second = {}, float* second_out = nullptr) {
        const int units = units_of(first.rows), more = second.present() ? units_of(second.rows) : 0;
        share(worker_, tail(), units + more, 1, [&](int begin, int end) {
            rows_of_units(inputs, first, first_out, begin, least(end, units));
            rows_of_units(inputs, second, second_out, begin < units ? 0 : begin - units,
                          end - units);
        });
    }

    static int units_of(int rows) { return (rows + kUnitRows - 1) / kUnitRows; }

    void rows_of_units(const Inputs& inputs, const Matrix& matrix, float* out, int begin, int end) {
        if (begin >= end) return;
        inputs.multiply(arithmetic_, matrix, begin * kUnitRows, least(end * kUnitRows, matrix.rows),
                        own_, {out, static_cast<std::size_t>(matrix.rows)});
    }

    // [tokens][heads * value]
    const float* attend() {
        float* kv = shared_.take<float>(tokens_ * cache_width());
        float* queries = project_queries(kv);
        write_cache(kv);
        const bool few = pass_.tokens <= b_.absorb_up_to || seen() > kExpandedRows;
        return few ? absorbed(queries) : expanded(queries);
    }

    float* project_queries(float* kv) {
        auto* queries = shared_.take<float>(tokens_ * static_cast<std::size_t>(b_.query.rows));
        const Matrix& first = b_.query_latent ? b_.query_down : b_.query;
        float* out = queries;
        if (b_.query_latent) {
            out = shared_.take<float>(tokens_ * static_cast<std::size_t>(b_.query_latent));
        }
        Inputs x = fresh_inputs(static_cast<std::size_t>(b_.width));
        x.reserve(near(), arithmetic_, first);
        x.reserve(near(), arithmetic_, b_.compress);
        normalise(pass_.hidden, b_.attention_norm, x);
        multiply_all(x, first, out, b_.compress, kv);
        worker_.barrier();
        if (!b_.query_latent) return queries;
        Inputs low = fresh_inputs(static_cast<std::size_t>(b_.query_latent));
        low.reserve(near(), arithmetic_, b_.query);
        normalise(out, b_.query_norm, low);
        multiply_all(low, b_.query, queries);
        worker_.barrier();
        return queries;
    }

    // The caller's next barrier makes the rows seen by all.
    void write_cache(float* kv) {
        share(worker_, tail(), pass_.tokens, 1, [&](int begin, int end) {
            for (int t = begin; t < end; ++t) {
                float* row = kv + static_cast<std::size_t>(t) * cache_width();
                tier_.floats.rms_norm(row, b_.latent_norm, static_cast<std::size_t>(b_.latent),
                                      b_.epsilon, row);
                rotate(row + b_.latent, t);
                tier_.floats.write_cache_row(pass_.cache.format, row, cache_width(),
                                             cache_row(pass_.start + t));
            }
        });
    }

    void rotate(float* values, int t) const {
        tier_.floats.rotate(values, 1, 0, static_cast<std::size_t>(b_.rope), cosine(t), sine(t));
    }

    void* cache_row(int position) const {
        return const_cast<std::uint8_t*>(pass_.cache.first) +
               static_cast<std::size_t>(position) * pass_.cache.stride_bytes;
    }

    Matrix head_of(const HeadMatrices& heads, int head) const {
        Matrix one = heads.first;
        one.blocks = static_cast<const std::uint8_t*>(one.blocks) + head * heads.head_bytes;
        return one;
    }

    // Queries move into the latent's space, attend there, and come back.
    const float* absorbed(const float* queries) {
        const auto heads = static_cast<std::size_t>(b_.heads);
        auto* moved = shared_.take<float>(tokens_ * heads * cache_width());
        share(worker_, tail(), b_.heads, 1, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) move_into_latent(queries, head, moved);
        });
        worker_.barrier();
        const Splits splits = choose_splits();
        auto* partials = shared_.take<float>(splits.partial_values());
        share(worker_, tail(), splits.rows * splits.groups, 1, [&](int begin, int end) {
            for (int unit = begin; unit < end; ++unit) attend_split(moved, splits, unit, partials);
        });
        worker_.barrier();
        auto* out = shared_.take<float>(tokens_ * heads * static_cast<std::size_t>(b_.value));
        share(worker_, tail(), b_.heads, 1, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) values_of(partials, splits, head, out);
        });
        worker_.barrier();
        return out;
    }

    // [tokens][heads][latent + rope]: W_k^T of the part without position, the other part rotated.
    void move_into_latent(const float* queries, int head, float* moved) const {
        Memory own = own_;
        const std::size_t stride = static_cast<std::size_t>(b_.heads) * head_key();
        const std::size_t moved_stride = static_cast<std::size_t>(b_.heads) * cache_width();
        const float* first = queries + static_cast<std::size_t>(head) * head_key();
        float* out = moved + static_cast<std::size_t>(head) * cache_width();
        const Matrix key = head_of(b_.key, head);
        for (int t = 0; t < pass_.tokens; ++t) {
            const auto at = static_cast<std::size_t>(t);
            float* rope = out + at * moved_stride + b_.latent;
            std::memcpy(rope, first + at * stride + b_.nope,
                        static_cast<std::size_t>(b_.rope) * sizeof(float));
            rotate(rope, t);
        }
        if (b_.key_transposed) {
            Inputs x({first, stride, static_cast<std::size_t>(b_.nope), nullptr, pass_.tokens});
            x.reserve(own, arithmetic_, key);
            x.fill(tier_, 0, x.pieces());
            x.multiply(arithmetic_, key, 0, b_.latent, own, {out, moved_stride});
            return;
        }
        multiply_transposed(key, {first, stride, 0, nullptr, pass_.tokens}, own,
                            {out, moved_stride});
    }

    // y[t] = sum of x[t][row] * row: for files that hold the key's matrix the other way round.
    void multiply_transposed(const Matrix& matrix, const Tokens& x, Memory own,
                             const Outputs& y) const {
        const auto columns = static_cast<std::size_t>(matrix.columns);
        auto* row = own.take<float>(columns);
        const auto& format = arithmetic_.of(matrix);
        for (int t = 0; t < x.count; ++t) {
            std::memset(y.first + static_cast<std::size_t>(t) * y.stride, 0,
                        columns * sizeof(float));
        }
        for (int r = 0; r < matrix.rows; ++r) {
            format.decode(static_cast<const std::uint8_t*>(matrix.blocks) + r * matrix.row_bytes,
                          columns, row);
            for (int t = 0; t < x.count; ++t) {
                const auto at = static_cast<std::size_t>(t);
                tier_.floats.add_scaled(y.first + at * y.stride, row,
                                        x.first[at * x.stride + static_cast<std::size_t>(r)],
                                        columns);
            }
        }
    }

    // One token: by rows, so that each row is decoded once. Several: by heads first, for partial
    // results of every run of rows take memory.
    Splits choose_splits() const {
        const int most_rows = (seen() + kSplitRows - 1) / kSplitRows;
        int groups = pass_.tokens < kFewTokens ? 1 : least(b_.heads, worker_.count);
        Splits made{};
        made.rows = least(most_rows, (worker_.count + groups - 1) / groups);
        if (made.rows * groups < worker_.count) {
            groups = least(b_.heads, (worker_.count + made.rows - 1) / made.rows);
        }
        made.heads = (b_.heads + groups - 1) / groups;
        made.groups = (b_.heads + made.heads - 1) / made.heads;
        made.queries = tokens_ * static_cast<std::size_t>(made.heads);
        made.value_row = whole(static_cast<std::size_t>(b_.latent), kValueRow);
        return made;
    }

    void attend_split(const float* moved, const Splits& splits, int unit, float* partials) const {
        Memory own = own_;
        const int head = unit % splits.groups * splits.heads, part = unit / splits.groups;
        const auto begin = static_cast<std::size_t>(seen()) * static_cast<std::size_t>(part) /
                           static_cast<std::size_t>(splits.rows);
        const auto end = static_cast<std::size_t>(seen()) * static_cast<std::size_t>(part + 1) /
                         static_cast<std::size_t>(splits.rows);
        const AbsorbedQueries queries{
            moved + static_cast<std::size_t>(head) * cache_width(),
            static_cast<std::size_t>(b_.heads) * cache_width(),
            cache_width(),
            tokens_,
            static_cast<std::size_t>(least(splits.heads, b_.heads - head)),
            static_cast<std::size_t>(pass_.start) + 1,
            b_.score_scale};
        tier_.floats.absorbed_attention(pass_.cache, begin, end, queries,
                                        splits.partial(partials, unit),
                                        own.take<float>(absorbed_scratch(cache_width())));
    }

    // out [tokens][heads][value] of one head: its parts joined, then W_v.
    void values_of(float* partials, const Splits& splits, int head, float* out) const {
        Memory own = own_;
        const auto latent = static_cast<std::size_t>(b_.latent);
        const int group = head / splits.heads, first = group * splits.heads;
        const auto heads = static_cast<std::size_t>(least(splits.heads, b_.heads - first));
        auto* parts = own.take<PartialAttention>(static_cast<std::size_t>(splits.rows));
        for (int part = 0; part < splits.rows; ++part) {
            parts[part] = splits.partial(partials, part * splits.groups + group);
        }
        auto* joined = own.take<float>(tokens_ * splits.value_row);
        for (std::size_t t = 0; t < tokens_; ++t) {
            const std::size_t query = t * heads + static_cast<std::size_t>(head - first);
            tier_.floats.join_attention(parts, static_cast<std::size_t>(splits.rows), query, latent,
                                        joined + t * splits.value_row);
        }
        const Matrix up = head_of(b_.value_up, head);
        Inputs x({joined, splits.value_row, latent, nullptr, pass_.tokens});
        x.reserve(own, arithmetic_, up);
        x.fill(tier_, 0, x.pieces());
        x.multiply(arithmetic_, up, 0, b_.value, own,
                   {out + static_cast<std::size_t>(head * b_.value),
                    static_cast<std::size_t>(b_.heads * b_.value)});
    }

    // Keys and values of all cached rows are unfolded a head at a time.
    const float* expanded(float* queries) {
        const auto rows = static_cast<std::size_t>(seen());
        worker_.barrier();  // the cache's new rows
        auto* cached = shared_.take<float>(rows * cache_width());
        Inputs latents(
            {cached, cache_width(), static_cast<std::size_t>(b_.latent), nullptr, seen()});
        latents.reserve(shared_, arithmetic_, b_.value_up.first);
        latents.reserve(shared_, arithmetic_, key_rows(nullptr));
        share(worker_, tail(), latents.pieces(), 1, [&](int begin, int end) {
            const auto first = static_cast<std::size_t>(begin * kTokenTile);
            const auto last = static_cast<std::size_t>(least(end * kTokenTile, seen()));
            tier_.floats.read_cache_rows(pass_.cache, first, last, cached + first * cache_width(),
                                         cache_width());
            latents.fill(tier_, begin, end);
        });
        worker_.barrier();
        auto* out = shared_.take<float>(tokens_ * static_cast<std::size_t>(b_.heads * b_.value));
        share(worker_, tail(), b_.heads, 1, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) attend_head(queries, latents, head, out);
        });
        worker_.barrier();
        return out;
    }

    // One head's key matrix as [nope][latent]: as it stands, or float32 values in `turned`.
    Matrix key_rows(const void* turned) const {
        if (!b_.key_transposed) return b_.key.first;
        const auto row_bytes = static_cast<std::int64_t>(b_.latent * sizeof(float));
        return {turned ? turned : this, row_bytes, kF32, b_.nope, b_.latent, 0};
    }

    Matrix turned_key(int head, Memory& own) const {
        if (!b_.key_transposed) return head_of(b_.key, head);
        const auto nope = static_cast<std::size_t>(b_.nope);
        const auto latent = static_cast<std::size_t>(b_.latent);
        auto* turned = own.take<float>(nope * latent);
        auto* row = own.take<float>(nope);
        const Matrix key = head_of(b_.key, head);
        for (std::size_t l = 0; l < latent; ++l) {
            arithmetic_.of(key).decode(static_cast<const std::uint8_t*>(key.blocks) +
                                           static_cast<std::int64_t>(l) * key.row_bytes,
                                       nope, row);
            for (std::size_t n = 0; n < nope; ++n) turned[n * latent + l] = row[n];
        }
        return key_rows(turned);
    }

    void attend_head(float* queries, const Inputs& latents, int head, float* out) const {
        Memory own = own_;
        const auto nope = static_cast<std::size_t>(b_.nope);
        const auto value = static_cast<std::size_t>(b_.value);
        const auto rows = static_cast<std::size_t>(seen());
        const std::size_t stride = static_cast<std::size_t>(b_.heads) * head_key();
        auto* keys = own.take<float>(rows * nope);
        auto* values = own.take<float>(rows * value);
        latents.multiply(arithmetic_, turned_key(head, own), 0, b_.nope, own, {keys, nope});
        latents.multiply(arithmetic_, head_of(b_.value_up, head), 0, b_.value, own,
                         {values, value});
        for (int t = 0; t < pass_.tokens; ++t) {
            rotate(queries + static_cast<std::size_t>(t) * stride +
                       static_cast<std::size_t>(head) * head_key() + nope,
                   t);
        }
        const ExpandedAttention attention{queries,
                                          stride,
                                          head_key(),
                                          keys,
                                          nope,
                                          0,
                                          latents.x().first + b_.latent,
                                          cache_width(),
                                          values,
                                          value,
                                          0,
                                          out,
                                          static_cast<std::size_t>(b_.heads) * value,
                                          value,
                                          nope,
                                          static_cast<std::size_t>(b_.rope),
                                          value,
                                          static_cast<std::size_t>(pass_.start),
                                          b_.score_scale};
        float* scratch = own.take<float>(expanded_scratch(head_key(), value, tokens_));
        tier_.floats.expanded_attention(attention, static_cast<std::size_t>(head), 0, tokens_,
                                        scratch);
    }

    void project(const float* heads_out) {
        const auto columns = static_cast<std::size_t>(b_.output.columns);
        Inputs inputs({heads_out, columns, columns, nullptr, pass_.tokens});
        inputs.reserve(near(), arithmetic_, b_.output);
        each(inputs.pieces(), [&](int begin, int end) { inputs.fill(tier_, begin, end); });
        share(worker_, tail(), units_of(b_.width), 1, [&](int begin, int end) {
            for (int unit = begin; unit < end; ++unit) add_output_rows(inputs, unit * kUnitRows);
        });
        worker_.barrier();
    }

    void add_output_rows(const Inputs& inputs, int row) {
        const int last = least(row + kUnitRows, b_.width);
        Memory own = own_;
        auto* y = own.take<float>(tokens_ * kUnitRows);
        inputs.multiply(arithmetic_, b_.output, row, last, own, {y - row, kUnitRows});
        for (std::size_t t = 0; t < tokens_; ++t) {
            float* h = pass_.hidden + t * static_cast<std::size_t>(b_.width);
            for (int r = row; r < last; ++r)
                h[r] += y[t * kUnitRows + static_cast<std::size_t>(r - row)];
        }
    }

    void feed_forward() {
        const auto width = static_cast<std::size_t>(b_.width);
        Inputs x = fresh_inputs(width);
        x.reserve(near(), arithmetic_, b_.router);
        normalise(pass_.hidden, b_.feed_forward_norm, x);
        if (!b_.router.present()) {
            FeedForward dense(arithmetic_, own_, shared_, x.x().first, width, pass_.tokens, 1);
            dense.add(b_.gate, b_.up, b_.down);
            return dense.run(worker_, job_.feed_forward_tails, pass_.hidden);
        }
        const auto experts = static_cast<std::size_t>(b_.rules.experts);
        const auto used = static_cast<std::size_t>(b_.rules.used);
        auto* logits = shared_.take<float>(tokens_ * experts);
        auto* chosen = near().take<std::int32_t>(tokens_ * used);
        auto* weight = near().take<float>(tokens_ * used);
        auto* scratch = own_.take<float>(router_scratch(b_.rules));
        multiply_all(x, b_.router, logits);
        worker_.barrier();
        each(pass_.tokens, [&](int begin, int end) {
            for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
                choose_experts(b_.rules, logits + t * experts, b_.router_bias, scratch,
                               chosen + t * used, weight + t * used);
            }
        });
        FeedForward mixture(arithmetic_, own_, shared_, x.x().first, width, pass_.tokens,
                            most_entries(b_.experts, pass_.tokens) + 1);
        mixture.add(b_.experts, chosen, weight);
        if (b_.gate.present()) mixture.add(b_.gate, b_.up, b_.down);
        mixture.run(worker_, job_.feed_forward_tails, pass_.hidden);
    }

    Worker& worker_;
    BlockJob& job_;
    const LatentBlock& b_;
    const BlockPass& pass_;
    const Arithmetic& arithmetic_;
    const Functions& tier_;
    Memory own_, shared_;
    std::size_t tokens_;
    int next_tail_ = 0;
};

void run_block(Worker& worker, void* context) {
    Phases(worker, *static_cast<BlockJob*>(context)).run();
}

std::size_t inputs_bytes(const Arithmetic& arithmetic, std::initializer_list<Matrix> matrices,
                         int tokens) {
    std::size_t bytes = 0;
    for (const Matrix& matrix : matrices) bytes += inputs_bytes(arithmetic, matrix, tokens, 1);
    return bytes;
}

FeedForward::Needs feed_forward_needs(const LatentBlock& b, const Arithmetic& arithmetic,
                                      int tokens) {
    FeedForward::Needs needs = FeedForward::needs(arithmetic, b.gate, b.up, b.down, tokens);
    if (!b.router.present()) return needs;
    const FeedForward::Needs routed = FeedForward::needs(arithmetic, b.experts, tokens);
    const std::size_t choice =
        static_cast<std::size_t>(tokens) * (static_cast<std::size_t>(b.rules.experts) * 4 +
                                            static_cast<std::size_t>(b.rules.used) * 8) +
        router_scratch(b.rules) * 4;
    return {needs.shared + routed.shared + choice + 256, needs.own + routed.own + choice + 256};
}

// Of one worker: a single token's own inputs, and the widest scratch of a phase.
std::size_t own_bytes(const LatentBlock& b, const Arithmetic& arithmetic, int tokens, int seen,
                      int workers) {
    const auto count = static_cast<std::size_t>(tokens), width = static_cast<std::size_t>(b.width);
    std::size_t bytes = 4096;
    const auto floats = [&](std::size_t values) { bytes += values * sizeof(float) + 64; };
    std::size_t scratch = 0;
    for (const Matrix* matrix : {&b.query_down, &b.query, &b.compress, &b.output, &b.router,
                                 &b.key.first, &b.value_up.first}) {
        const std::size_t here = scratch_bytes(arithmetic, *matrix);
        scratch = here > scratch ? here : scratch;
    }
    bytes += scratch + inputs_bytes(arithmetic, {b.key.first, b.value_up.first}, tokens);
    floats(count * FeedForward::kUnitRows);
    floats(count * (static_cast<std::size_t>(b.latent) + kValueRow));
    floats(absorbed_scratch(static_cast<std::size_t>(b.latent + b.rope)));
    if (tokens == 1) {
        floats(2 * width + static_cast<std::size_t>(b.query_latent));
        bytes +=
            inputs_bytes(arithmetic, {b.query_down, b.query, b.compress, b.output, b.router}, 1);
    }
    if (tokens > b.absorb_up_to && seen <= kExpandedRows) {
        const auto nope = static_cast<std::size_t>(b.nope);
        const auto value = static_cast<std::size_t>(b.value);
        const auto latent = static_cast<std::size_t>(b.latent);
        floats(static_cast<std::size_t>(seen) * (nope + value) + 32);
        floats(nope * (latent + 1) + 32);
        floats(expanded_scratch(nope + static_cast<std::size_t>(b.rope), value, count));
        bytes += format_of(arithmetic.tier, kF32)->product_exact.scratch_bytes(latent);
    }
    return bytes + static_cast<std::size_t>(workers) * sizeof(PartialAttention) +
           feed_forward_needs(b, arithmetic, tokens).own;
}

// What a pass of `tokens` tokens that sees `seen` rows takes of the shared memory, each piece.
std::size_t shared_bytes(const LatentBlock& b, const Arithmetic& arithmetic, int tokens, int seen,
                         int workers) {
    const auto count = static_cast<std::size_t>(tokens), rows = static_cast<std::size_t>(seen);
    const auto heads = static_cast<std::size_t>(b.heads), width = static_cast<std::size_t>(b.width);
    const auto cached = static_cast<std::size_t>(b.latent + b.rope);
    const auto value_row = whole(static_cast<std::size_t>(b.latent), kValueRow);
    std::size_t bytes = 0;
    const auto floats = [&](std::size_t values) { bytes += values * sizeof(float) + 64; };
    floats(count * cached);
    floats(count * static_cast<std::size_t>(b.query.rows + 2 * b.query_latent) + 32);
    floats(2 * count * width + 16);
    floats(count * heads * static_cast<std::size_t>(b.value));
    bytes +=
        inputs_bytes(arithmetic, {b.query_down, b.query, b.compress, b.output, b.router}, tokens);
    if (tokens > b.absorb_up_to && seen <= kExpandedRows) {
        const auto row_bytes = static_cast<std::int64_t>(b.latent) * 4;
        const Matrix turned{&b, row_bytes, kF32, b.nope, b.latent, 0};
        floats(rows * cached);
        bytes += inputs_bytes(arithmetic,
                              {b.value_up.first, b.key_transposed ? turned : b.key.first}, seen);
    } else {
        floats(count * heads * cached);
        const int splits = tokens < kFewTokens ? workers : workers / b.heads + 2;
        floats(static_cast<std::size_t>(splits) * count * 2 * heads * (value_row + 2));
    }
    return bytes + feed_forward_needs(b, arithmetic, tokens).shared;
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_latent_block(const hybrid::LatentBlock* block, const hybrid::BlockPass* pass) {
    hybrid::BlockJob job{*block, *pass, hybrid::arithmetic_of(pass->tier, pass->precision), {}, {}};
    return hybrid::run_job(pass->threads, hybrid::run_block, &job);
}

void hybrid_latent_block_needs(const hybrid::LatentBlock* block, std::int32_t tier,
                               std::int32_t precision, std::int32_t tokens, std::int32_t seen,
                               std::int32_t threads, hybrid::BlockNeeds* needs) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    const int workers = threads > 0 ? threads : hybrid_pool_workers();
    *needs = {
        static_cast<std::int64_t>(hybrid::shared_bytes(*block, arithmetic, tokens, seen, workers)),
        static_cast<std::int64_t>(hybrid::own_bytes(*block, arithmetic, tokens, seen, workers))};
}
