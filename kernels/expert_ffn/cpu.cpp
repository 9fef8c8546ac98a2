#include "feed_forward.h"
#include "library.h"
#include "product_job.h"

namespace hybrid {
namespace {

struct ExpertJob {
    Arithmetic arithmetic;
    Experts experts;
    const float* x;
    int tokens;
    const std::int32_t* chosen;
    const float* share;
    float* out;
    JobMemory memory;
    Tail tails[FeedForward::kTails]{};
};

void run_experts(Worker& worker, void* context) {
    auto& job = *static_cast<ExpertJob*>(context);
    Memory shared = job.memory.shared(worker), own = job.memory.own(worker);
    const auto width = static_cast<std::size_t>(job.experts.part[0].gate.columns);
    FeedForward experts(job.arithmetic, own, shared, job.x, width, job.tokens,
                        most_entries(job.experts, job.tokens));
    experts.add(job.experts, job.chosen, job.share);
    experts.run(worker, job.tails, job.out);
}

}  // namespace
}  // namespace hybrid

std::int64_t hybrid_expert_ffn_bytes(std::int32_t tier, std::int32_t precision,
                                     const hybrid::Experts* experts, std::int32_t tokens,
                                     std::int32_t threads) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    const auto needs = hybrid::FeedForward::needs(arithmetic, *experts, tokens);
    return hybrid::JobMemory::bytes(needs.shared, needs.own, threads);
}

std::int32_t hybrid_expert_ffn(std::int32_t tier, std::int32_t precision, std::int32_t threads,
                               const hybrid::Experts* experts, const float* x, std::int32_t tokens,
                               const std::int32_t* chosen, const float* share, float* out,
                               void* workspace, std::int64_t workspace_bytes) {
    const auto arithmetic = hybrid::arithmetic_of(tier, precision);
    const auto needs = hybrid::FeedForward::needs(arithmetic, *experts, tokens);
    return hybrid::run_kept<hybrid::ExpertJob>(
        threads, hybrid::run_experts, arithmetic, *experts, x, tokens, chosen, share, out,
        hybrid::JobMemory(workspace, workspace_bytes, needs.own));
}
