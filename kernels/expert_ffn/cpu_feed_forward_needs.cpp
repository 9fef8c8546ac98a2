// What a job's feed-forwards need of memory, at most.

#include "feed_forward.h"
#include "product_job.h"

namespace hybrid {
namespace {

// Of `pairs` tokens in `lists` entries of one shape.
FeedForward::Needs entry_needs(const Arithmetic& arithmetic, const Matrix& gate, const Matrix& up,
                               const Matrix& down, int pairs, int lists, int tokens) {
    if (!gate.present()) return {};
    FeedForward::Needs needs;
    const auto count = static_cast<std::size_t>(pairs), rows = static_cast<std::size_t>(gate.rows);
    (tokens == 1 ? needs.own : needs.shared) +=
        inputs_bytes(arithmetic, gate, pairs, lists) + inputs_bytes(arithmetic, up, pairs, lists);
    needs.shared += inputs_bytes(arithmetic, down, pairs, lists);
    needs.shared += count * rows * sizeof(float) + 64 * static_cast<std::size_t>(lists);
    needs.own += static_cast<std::size_t>(lists) * (sizeof(Entry) + 64) +
                 2 * (RowUnits::most_values(tokens) * sizeof(float) + 64);
    std::size_t scratch = 0;
    for (const Matrix* matrix : {&gate, &up, &down}) {
        const std::size_t here = scratch_bytes(arithmetic, *matrix);
        scratch = here > scratch ? here : scratch;
    }
    needs.own += scratch;
    return needs;
}

}  // namespace

FeedForward::Needs FeedForward::needs(const Arithmetic& arithmetic, const Experts& experts,
                                      int tokens) {
    Needs all;
    const int lists = most_entries(experts, tokens) / experts.parts, pairs = tokens * experts.used;
    const auto width = static_cast<std::size_t>(experts.part[0].gate.columns);
    for (int part = 0; part < experts.parts; ++part) {
        const ExpertPart& p = experts.part[part];
        const Needs one = entry_needs(arithmetic, p.gate, p.up, p.down, pairs, lists, tokens);
        all.shared += one.shared;
        all.own += one.own;
    }
    if (experts.parts > 1) {
        all.shared += static_cast<std::size_t>(experts.parts * tokens) * width * sizeof(float) + 64;
    }
    all.own +=
        static_cast<std::size_t>(pairs) * 8 + static_cast<std::size_t>(experts.count) * 8 + 512;
    return all;
}

FeedForward::Needs FeedForward::needs(const Arithmetic& arithmetic, const Matrix& gate,
                                      const Matrix& up, const Matrix& down, int tokens) {
    return entry_needs(arithmetic, gate, up, down, tokens, 1, tokens);
}

}  // namespace hybrid
