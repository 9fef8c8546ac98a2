// Attention of many tokens, on keys and values unfolded from the cached latents.

#include "attend.h"

namespace hybrid {
namespace {

class Expanded {
  public:
    explicit Expanded(BlockWork& work)
        : work_(work), b_(work.block), pass_(work.pass), tier_(work.tier), tokens_(work.tokens) {}

    // Keys and values of all cached rows are unfolded a head at a time.
    const float* run(float* queries) {
        const auto rows = static_cast<std::size_t>(work_.seen());
        work_.worker.barrier();  // the cache's new rows
        auto* cached = work_.shared.take<float>(rows * work_.cache_width());
        Inputs latents({cached, work_.cache_width(), static_cast<std::size_t>(b_.latent), nullptr,
                        work_.seen()});
        latents.reserve(work_.shared, work_.arithmetic, b_.value_up.first);
        latents.reserve(work_.shared, work_.arithmetic, key_rows(nullptr));
        share(work_.worker, work_.tail(), latents.pieces(), [&](int begin, int end) {
            const auto first = static_cast<std::size_t>(begin * kTokenTile);
            const auto last = static_cast<std::size_t>(least(end * kTokenTile, work_.seen()));
            tier_.floats.read_cache_rows(work_.cache, first, last,
                                         cached + first * work_.cache_width(), work_.cache_width());
            latents.fill(tier_, begin, end);
        });
        work_.worker.barrier();
        auto* out =
            work_.shared.take<float>(tokens_ * static_cast<std::size_t>(b_.heads * b_.value));
        share(work_.worker, work_.tail(), b_.heads, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) attend_head(queries, latents, head, out);
        });
        work_.worker.barrier();
        return out;
    }

  private:
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
            work_.arithmetic.of(key).decode(static_cast<const std::uint8_t*>(key.blocks) +
                                                static_cast<std::int64_t>(l) * key.row_bytes,
                                            nope, row);
            for (std::size_t n = 0; n < nope; ++n) turned[n * latent + l] = row[n];
        }
        return key_rows(turned);
    }

    void attend_head(float* queries, const Inputs& latents, int head, float* out) const {
        Memory own = work_.own;
        const auto nope = static_cast<std::size_t>(b_.nope);
        const auto value = static_cast<std::size_t>(b_.value);
        const auto rows = static_cast<std::size_t>(work_.seen());
        const std::size_t stride = static_cast<std::size_t>(b_.heads) * work_.head_key();
        auto* keys = own.take<float>(rows * nope);
        auto* values = own.take<float>(rows * value);
        latents.multiply(work_.arithmetic, turned_key(head, own), 0, b_.nope, own, {keys, nope});
        latents.multiply(work_.arithmetic, head_of(b_.value_up, head), 0, b_.value, own,
                         {values, value});
        for (int t = 0; t < pass_.tokens; ++t) {
            work_.rotate(queries + static_cast<std::size_t>(t) * stride +
                             static_cast<std::size_t>(head) * work_.head_key() + nope,
                         t);
        }
        const ExpandedAttention attention{queries,
                                          stride,
                                          work_.head_key(),
                                          keys,
                                          nope,
                                          0,
                                          latents.x().first + b_.latent,
                                          work_.cache_width(),
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
        float* scratch = own.take<float>(expanded_scratch(work_.head_key(), value, tokens_));
        tier_.floats.expanded_attention(attention, static_cast<std::size_t>(head), 0, tokens_,
                                        scratch);
    }

    BlockWork& work_;
    const LatentBlock& b_;
    const BlockPass& pass_;
    const Functions& tier_;
    std::size_t tokens_;
};

}  // namespace

const float* attend_expanded(BlockWork& work, float* queries) {
    return Expanded(work).run(queries);
}

}  // namespace hybrid
