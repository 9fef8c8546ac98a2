// Attention of a few tokens, in the space of the cached latents.

#include <cstring>

#include "attend.h"

namespace hybrid {
namespace {

constexpr int kSplitRows = 256;  // cache rows below which a context is not split further

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

class Absorbed {
  public:
    explicit Absorbed(BlockWork& work)
        : work_(work), b_(work.block), pass_(work.pass), tier_(work.tier), tokens_(work.tokens) {}

    // Queries move into the latent's space, attend there, and come back.
    const float* run(const float* queries) {
        const auto heads = static_cast<std::size_t>(b_.heads);
        auto* moved = work_.shared.take<float>(tokens_ * heads * work_.cache_width());
        share(work_.worker, work_.tail(), b_.heads, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) move_into_latent(queries, head, moved);
        });
        work_.worker.barrier();
        const Splits splits = choose_splits();
        auto* partials = work_.shared.take<float>(splits.partial_values());
        share(work_.worker, work_.tail(), splits.rows * splits.groups, [&](int begin, int end) {
            for (int unit = begin; unit < end; ++unit) attend_split(moved, splits, unit, partials);
        });
        work_.worker.barrier();
        auto* out = work_.shared.take<float>(tokens_ * heads * static_cast<std::size_t>(b_.value));
        share(work_.worker, work_.tail(), b_.heads, [&](int begin, int end) {
            for (int head = begin; head < end; ++head) values_of(partials, splits, head, out);
        });
        work_.worker.barrier();
        return out;
    }

  private:
    // [tokens][heads][latent + rope]: W_k^T of the part without position, the other part rotated.
    void move_into_latent(const float* queries, int head, float* moved) const {
        Memory own = work_.own;
        const std::size_t stride = static_cast<std::size_t>(b_.heads) * work_.head_key();
        const std::size_t moved_stride = static_cast<std::size_t>(b_.heads) * work_.cache_width();
        const float* first = queries + static_cast<std::size_t>(head) * work_.head_key();
        float* out = moved + static_cast<std::size_t>(head) * work_.cache_width();
        const Matrix key = head_of(b_.key, head);
        for (int t = 0; t < pass_.tokens; ++t) {
            const auto at = static_cast<std::size_t>(t);
            float* rope = out + at * moved_stride + b_.latent;
            std::memcpy(rope, first + at * stride + b_.nope,
                        static_cast<std::size_t>(b_.rope) * sizeof(float));
            work_.rotate(rope, t);
        }
        if (b_.key_transposed) {
            Inputs x({first, stride, static_cast<std::size_t>(b_.nope), nullptr, pass_.tokens});
            x.reserve(own, work_.arithmetic, key);
            x.fill(tier_, 0, x.pieces());
            x.multiply(work_.arithmetic, key, 0, b_.latent, own, {out, moved_stride});
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
        const auto& format = work_.arithmetic.of(matrix);
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
        const int most_rows = (work_.seen() + kSplitRows - 1) / kSplitRows;
        int groups = pass_.tokens < kFewTokens ? 1 : least(b_.heads, work_.worker.count);
        Splits made{};
        made.rows = least(most_rows, (work_.worker.count + groups - 1) / groups);
        if (made.rows * groups < work_.worker.count) {
            groups = least(b_.heads, (work_.worker.count + made.rows - 1) / made.rows);
        }
        made.heads = (b_.heads + groups - 1) / groups;
        made.groups = (b_.heads + made.heads - 1) / made.heads;
        made.queries = tokens_ * static_cast<std::size_t>(made.heads);
        made.value_row = whole(static_cast<std::size_t>(b_.latent), kValueRow);
        return made;
    }

    void attend_split(const float* moved, const Splits& splits, int unit, float* partials) const {
        Memory own = work_.own;
        const int head = unit % splits.groups * splits.heads, part = unit / splits.groups;
        const auto begin = static_cast<std::size_t>(work_.seen()) * static_cast<std::size_t>(part) /
                           static_cast<std::size_t>(splits.rows);
        const auto end = static_cast<std::size_t>(work_.seen()) *
                         static_cast<std::size_t>(part + 1) / static_cast<std::size_t>(splits.rows);
        const AbsorbedQueries queries{
            moved + static_cast<std::size_t>(head) * work_.cache_width(),
            static_cast<std::size_t>(b_.heads) * work_.cache_width(),
            work_.cache_width(),
            tokens_,
            static_cast<std::size_t>(least(splits.heads, b_.heads - head)),
            static_cast<std::size_t>(pass_.start) + 1,
            b_.score_scale};
        tier_.floats.absorbed_attention(work_.cache, begin, end, queries,
                                        splits.partial(partials, unit),
                                        own.take<float>(absorbed_scratch(work_.cache_width())));
    }

    // out [tokens][heads][value] of one head: its parts joined, then W_v.
    void values_of(float* partials, const Splits& splits, int head, float* out) const {
        Memory own = work_.own;
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
        x.reserve(own, work_.arithmetic, up);
        x.fill(tier_, 0, x.pieces());
        x.multiply(work_.arithmetic, up, 0, b_.value, own,
                   {out + static_cast<std::size_t>(head * b_.value),
                    static_cast<std::size_t>(b_.heads * b_.value)});
    }

    BlockWork& work_;
    const LatentBlock& b_;
    const BlockPass& pass_;
    const Functions& tier_;
    std::size_t tokens_;
};

}  // namespace

const float* attend_absorbed(BlockWork& work, const float* queries) {
    return Absorbed(work).run(queries);
}

}  // namespace hybrid
