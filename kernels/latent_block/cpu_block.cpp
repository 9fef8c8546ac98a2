// A pass over one block, from its norms to the residual stream. Every worker runs `run_blocks`.

#include "attend.h"

namespace hybrid {
namespace {

float* project_queries(BlockWork& work, float* kv) {
    const LatentBlock& b = work.block;
    auto* queries = work.shared.take<float>(work.tokens * static_cast<std::size_t>(b.query.rows));
    const Matrix& first = b.query_latent ? b.query_down : b.query;
    float* out = queries;
    if (b.query_latent) {
        out = work.shared.take<float>(work.tokens * static_cast<std::size_t>(b.query_latent));
    }
    Inputs x = work.fresh_inputs(static_cast<std::size_t>(b.width));
    x.reserve(work.near(), work.arithmetic, first);
    x.reserve(work.near(), work.arithmetic, b.compress);
    work.normalise(work.pass.hidden, b.attention_norm, x);
    work.multiply_all(x, first, out, b.compress, kv);
    work.worker.barrier();
    if (!b.query_latent) return queries;
    Inputs low = work.fresh_inputs(static_cast<std::size_t>(b.query_latent));
    low.reserve(work.near(), work.arithmetic, b.query);
    work.normalise(out, b.query_norm, low);
    work.multiply_all(low, b.query, queries);
    work.worker.barrier();
    return queries;
}

// The caller's next barrier makes the rows seen by all.
void write_cache(BlockWork& work, float* kv) {
    const LatentBlock& b = work.block;
    const CacheRows& cache = work.cache;
    const std::size_t width = work.cache_width();
    share(work.worker, work.tail(), work.pass.tokens, [&](int begin, int end) {
        for (int t = begin; t < end; ++t) {
            float* row = kv + static_cast<std::size_t>(t) * width;
            work.tier.floats.rms_norm(row, b.latent_norm, static_cast<std::size_t>(b.latent),
                                      b.epsilon, row);
            work.rotate(row + b.latent, t);
            const auto position = static_cast<std::size_t>(work.pass.start + t);
            auto* place = const_cast<std::uint8_t*>(cache.first) +
                          position * static_cast<std::size_t>(cache.stride_bytes);
            work.tier.floats.write_cache_row(cache.format, row, width, place);
        }
    });
}

// [tokens][heads * value]
const float* attend(BlockWork& work) {
    float* kv = work.shared.take<float>(work.tokens * work.cache_width());
    float* queries = project_queries(work, kv);
    write_cache(work, kv);
    const bool few = absorbs(work.block, work.pass.tokens, work.seen());
    return few ? attend_absorbed(work, queries) : attend_expanded(work, queries);
}

void add_output_rows(BlockWork& work, const Inputs& inputs, int first, int last) {
    const auto rows = static_cast<std::size_t>(last - first);
    Memory own = work.own;
    auto* y = own.take<float>(work.tokens * rows);
    inputs.multiply(work.arithmetic, work.block.output, first, last, own, {y - first, rows});
    for (std::size_t t = 0; t < work.tokens; ++t) {
        float* h = work.pass.hidden + t * static_cast<std::size_t>(work.block.width);
        for (int r = first; r < last; ++r) {
            h[r] += y[t * rows + static_cast<std::size_t>(r - first)];
        }
    }
}

void add_output(BlockWork& work, const float* heads_out) {
    const Matrix& output = work.block.output;
    const auto columns = static_cast<std::size_t>(output.columns);
    Inputs inputs({heads_out, columns, columns, nullptr, work.pass.tokens});
    inputs.reserve(work.near(), work.arithmetic, output);
    work.each(inputs.pieces(), [&](int begin, int end) { inputs.fill(work.tier, begin, end); });
    const RowUnits rows = work.units_of(output);
    share(work.worker, work.tail(), rows.count(), [&](int begin, int end) {
        rows.each_stretch(begin, end,
                          [&](int first, int last) { add_output_rows(work, inputs, first, last); });
    });
    work.worker.barrier();
}

// What the router chose: [tokens][used].
struct Choice {
    std::int32_t* expert;
    float* share;
};

Choice route(BlockWork& work, const Inputs& x) {
    const LatentBlock& b = work.block;
    const auto experts = static_cast<std::size_t>(b.rules.experts);
    const auto used = static_cast<std::size_t>(b.rules.used);
    auto* logits = work.shared.take<float>(work.tokens * experts);
    const Choice choice{work.near().take<std::int32_t>(work.tokens * used),
                        work.near().take<float>(work.tokens * used)};
    auto* scratch = work.own.take<float>(router_scratch(b.rules));
    work.multiply_all(x, b.router, logits);
    work.worker.barrier();
    work.each(work.pass.tokens, [&](int begin, int end) {
        for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
            choose_experts(b.rules, logits + t * experts, b.router_bias, scratch,
                           choice.expert + t * used, choice.share + t * used);
        }
    });
    return choice;
}

void count_usage(const BlockWork& work, const Choice& choice) {
    std::int64_t* const usage = work.usage();
    if (!usage) return;
    const auto pairs = work.tokens * static_cast<std::size_t>(work.block.rules.used);
    for (std::size_t pair = 0; pair < pairs; ++pair) ++usage[choice.expert[pair]];
}

void feed_forward(BlockWork& work, Tail* tails) {
    const LatentBlock& b = work.block;
    const auto width = static_cast<std::size_t>(b.width);
    const int tokens = work.pass.tokens;
    Inputs x = work.fresh_inputs(width);
    x.reserve(work.near(), work.arithmetic, b.router);
    work.normalise(work.pass.hidden, b.feed_forward_norm, x);
    if (!b.router.present()) {
        FeedForward dense(work.arithmetic, work.own, work.shared, x.x().first, width, tokens, 1);
        dense.add(b.gate, b.up, b.down);
        return dense.run(work.worker, tails, work.pass.hidden);
    }
    const Choice choice = route(work, x);
    count_usage(work, choice);
    FeedForward mixture(work.arithmetic, work.own, work.shared, x.x().first, width, tokens,
                        most_entries(b.experts, tokens) + 1);
    mixture.add(b.experts, choice.expert, choice.share);
    if (b.gate.present()) mixture.add(b.gate, b.up, b.down);
    mixture.run(work.worker, tails, work.pass.hidden);
}

void run_blocks(Worker& worker, void* context) {
    auto& job = *static_cast<BlocksJob*>(context);
    for (int number = 0; number < job.count; ++number) {
        if (number) worker.barrier();  // the hidden state; and nobody is in the block before
        if (worker.index == 0) job.tails[(number + 1) % 2].reset();
        BlockWork work(worker, job, number);
        work.mark(0);
        add_output(work, attend(work));
        work.mark(1);
        feed_forward(work, job.tails[number % 2].feed_forward);
    }
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_latent_blocks(const hybrid::LatentBlock* const* blocks,
                                  const hybrid::CacheRows* caches, std::int32_t count,
                                  const hybrid::BlockPass* pass) {
    const auto arithmetic = hybrid::arithmetic_of(pass->tier, pass->precision);
    const std::int32_t error = hybrid::run_kept<hybrid::BlocksJob>(
        pass->threads, hybrid::run_blocks, blocks, caches, count, *pass, arithmetic);
    if (pass->marks && error == 0) pass->marks[2 * count] = hybrid::now_ns();
    return error;
}
