#include <cstring>

#include "feed_forward.h"
#include "wait.h"

namespace hybrid {
namespace {

int least(int a, int b) {
    return a < b ? a : b;
}

Matrix moved(const Matrix& matrix, std::int64_t bytes) {
    Matrix there = matrix;
    there.blocks = static_cast<const std::uint8_t*>(matrix.blocks) + bytes;
    return there;
}

// Runs run(part, begin, end) over the units of every part. One part is shared out beforehand; of
// several a worker takes pieces as they come, its own node's first.
template <class Units, class Run>
void over_parts(const Worker& worker, Tail* tails, int parts, const Units& units, const Run& run) {
    if (parts == 1) {
        share(worker, tails[0], units(0), [&](int begin, int end) { run(0, begin, end); });
        return;
    }
    for (int step = 0; step < parts; ++step) {
        const int part = (worker.node + step) % parts;
        take_pieces(tails[part], units(part), (worker.count + parts - 1) / parts,
                    [&](int begin, int end) { run(part, begin, end); });
    }
}

// Adds a stretch of a worker's time, without its waits for others, to its clock of experts.
class Stretch {
  public:
    Stretch(Worker& worker, bool counts) : clocks_(worker.clocks), counts_(counts && clocks_.on) {
        if (counts_) begin_ = now_ns() - clocks_.waiting;
    }
    ~Stretch() {
        if (counts_) clocks_.experts += now_ns() - clocks_.waiting - begin_;
    }
    Stretch(const Stretch&) = delete;
    Stretch& operator=(const Stretch&) = delete;

  private:
    Clocks& clocks_;
    const bool counts_;
    Nanoseconds begin_ = 0;
};

}  // namespace

FeedForward::FeedForward(const Arithmetic& arithmetic, Memory& own, Memory& shared, const float* x,
                         std::size_t width, int tokens, int most_entries)
    : arithmetic_(arithmetic), own_(own), shared_(shared), x_(x), width_(width), tokens_(tokens) {
    entries_ = own.take<Entry>(static_cast<std::size_t>(most_entries));
}

void FeedForward::add(const Experts& experts, const std::int32_t* chosen, const float* share) {
    const int pairs = tokens_ * experts.used;
    const auto count = static_cast<std::size_t>(experts.count);
    auto* first = own_.take<int>(count + 1);
    auto* last = own_.take<int>(count);  // the token each expert has got last
    auto* token = own_.take<int>(static_cast<std::size_t>(pairs));
    auto* weight = own_.take<float>(static_cast<std::size_t>(pairs));
    std::memset(first, 0, (count + 1) * sizeof(int));
    std::memset(last, 0xFF, count * sizeof(int));  // -1
    const auto here = [&](int pair) { return chosen[pair] - experts.first; };
    const auto held = [&](int expert) { return expert >= 0 && expert < experts.count; };
    for (int pair = 0; pair < pairs; ++pair) {
        const int expert = here(pair), t = pair / experts.used;
        if (!held(expert) || last[expert] == t) continue;
        last[expert] = t;
        ++first[expert + 1];
    }
    for (int e = 0; e < experts.count; ++e) first[e + 1] += first[e];
    std::memset(last, 0xFF, count * sizeof(int));
    for (int pair = 0; pair < pairs; ++pair) {
        const int expert = here(pair), t = pair / experts.used;
        if (!held(expert)) continue;
        if (last[expert] == t) {  // named twice by one token: once, with both shares
            weight[first[expert] - 1] += share[pair];
            continue;
        }
        last[expert] = t;
        const int at = first[expert]++;  // leaves first[e] at the end of e
        token[at] = t;
        weight[at] = share[pair];
    }
    for (int e = 0; e < experts.count; ++e) {
        const int begin = e ? first[e - 1] : 0;
        if (begin == first[e]) continue;
        for (int part = 0; part < experts.parts; ++part) {
            const ExpertPart& p = experts.part[part];
            entries_[count_++] = {moved(p.gate, e * p.gate_bytes),
                                  moved(p.up, e * p.up_bytes),
                                  moved(p.down, e * p.down_bytes),
                                  part,
                                  first[e] - begin,
                                  tokens_ == 1 ? nullptr : token + begin,
                                  weight + begin,
                                  {},
                                  {},
                                  nullptr};
        }
    }
    for (int e = 0; e < count_; ++e) {
        if (entries_[e].tokens > most_tokens_) most_tokens_ = entries_[e].tokens;
    }
    if (experts.parts > parts_) parts_ = experts.parts;
    routed_ = true;
}

void FeedForward::add(const Matrix& gate, const Matrix& up, const Matrix& down) {
    entries_[count_++] = {gate, up, down, 0, tokens_, nullptr, nullptr, {}, {}, nullptr};
    most_tokens_ = tokens_;
}

void FeedForward::run(Worker& worker, Tail* tails, float* out) {
    if (count_ == 0) return;
    const Stretch stretch(worker, routed_);
    reserve_inputs();
    fill_inputs(worker, tails[0], false);
    widen(worker, tails + 3);
    worker.barrier();
    fill_inputs(worker, tails[1], true);
    narrow(worker, tails + 3 + kMaxParts, out);
    if (parts_ == 1) return;
    worker.barrier();
    add_parts(worker, tails[2], out);
}

// One token's x is one for all entries, and each worker's own.
void FeedForward::reserve_inputs() {
    Inputs common({x_, width_, width_, nullptr, 1});
    for (int e = 0; e < count_ && tokens_ == 1; ++e) {
        common.reserve(own_, arithmetic_, entries_[e].gate);
        common.reserve(own_, arithmetic_, entries_[e].up);
    }
    for (int e = 0; e < count_; ++e) {
        Entry& entry = entries_[e];
        const auto rows = static_cast<std::size_t>(entry.gate.rows);
        entry.hidden_values = shared_.take<float>(rows * static_cast<std::size_t>(entry.tokens));
        entry.x = common;
        if (tokens_ > 1) {
            entry.x = Inputs({x_, width_, width_, entry.token, entry.tokens});
            entry.x.reserve(shared_, arithmetic_, entry.gate);
            entry.x.reserve(shared_, arithmetic_, entry.up);
        }
        entry.hidden = Inputs({entry.hidden_values, rows, rows, nullptr, entry.tokens});
        entry.hidden.reserve(shared_, arithmetic_, entry.down);
    }
    if (parts_ > 1) {
        part_outputs_ = shared_.take<float>(static_cast<std::size_t>(parts_ * tokens_) * width_);
    }
}

// The pieces of all entries, shared out, but for one token's x. What workers read of one another is
// a quarter of the bytes when it is rounded.
void FeedForward::fill_inputs(Worker& worker, Tail& tail, bool hidden) {
    const auto inputs = [&](int e) -> const Inputs& {
        return hidden ? entries_[e].hidden : entries_[e].x;
    };
    if (tokens_ == 1 && !hidden) {
        if (count_) inputs(0).fill(arithmetic_.tier, 0, 1);
        return;
    }
    int all = 0;
    for (int e = 0; e < count_; ++e) all += inputs(e).pieces();
    share(worker, tail, all, [&](int begin, int end) {
        int first = 0;
        for (int e = 0; e < count_; ++e) {
            const int pieces = inputs(e).pieces();
            const int from = begin < first ? 0 : begin - first, to = least(end - first, pieces);
            if (from < to) inputs(e).fill(arithmetic_.tier, from, to);
            first += pieces;
        }
    });
    worker.barrier();
}

void FeedForward::widen(Worker& worker, Tail* tails) {
    const auto units = [&](int part) {
        int all = 0;
        for (int e = 0; e < count_; ++e) {
            if (entries_[e].part == part) all += units_of(entries_[e]).count();
        }
        return all;
    };
    over_parts(worker, tails, parts_, units,
               [&](int part, int begin, int end) { widen_units(part, begin, end); });
}

RowUnits FeedForward::units_of(const Entry& entry) const {
    return {entry.gate.rows, entry.tokens};
}

void FeedForward::widen_units(int part, int begin, int end) {
    int first = 0;  // unit of the entry at hand
    for (int e = 0; e < count_; ++e) {
        const Entry& entry = entries_[e];
        if (entry.part != part) continue;
        const RowUnits units = units_of(entry);
        const int from = begin < first ? 0 : begin - first, to = least(end - first, units.count());
        if (from < to) {
            units.each_stretch(from, to, [&](int row, int last) { widen_rows(entry, row, last); });
        }
        first += units.count();
    }
}

void FeedForward::widen_rows(const Entry& entry, int begin, int end) {
    const auto tokens = static_cast<std::size_t>(entry.tokens);
    const auto rows = static_cast<std::size_t>(end - begin);
    Memory scratch = own_;
    auto* gate = scratch.take<float>(tokens * rows);
    auto* up = scratch.take<float>(tokens * rows);
    entry.x.multiply(arithmetic_, entry.gate, begin, end, scratch, {gate - begin, rows},
                     row_of(entry.up, begin));
    entry.x.multiply(arithmetic_, entry.up, begin, end, scratch, {up - begin, rows});
    for (std::size_t t = 0; t < tokens; ++t) {
        float* hidden = entry.hidden_values + t * static_cast<std::size_t>(entry.gate.rows) + begin;
        arithmetic_.tier.floats.silu_times(gate + t * rows, up + t * rows, end - begin, hidden);
    }
}

void FeedForward::narrow(Worker& worker, Tail* tails, float* out) {
    const RowUnits rows(static_cast<int>(width_), most_tokens_);
    over_parts(
        worker, tails, parts_, [&](int) { return rows.count(); },
        [&](int part, int begin, int end) {
            rows.each_stretch(begin, end,
                              [&](int first, int last) { narrow_rows(part, first, last, out); });
        });
}

void FeedForward::narrow_rows(int part, int begin, int end, float* out) {
    const std::size_t rows = static_cast<std::size_t>(end - begin);
    if (parts_ > 1) {
        out = part_outputs_ + static_cast<std::size_t>(part * tokens_) * width_;
        for (int t = 0; t < tokens_; ++t) {
            std::memset(out + static_cast<std::size_t>(t) * width_ + begin, 0,
                        rows * sizeof(float));
        }
    }
    for (int e = 0; e < count_; ++e) {
        const Entry& entry = entries_[e];
        if (entry.part != part) continue;
        Memory scratch = own_;
        auto* y = scratch.take<float>(static_cast<std::size_t>(entry.tokens) * rows);
        int next = e + 1;
        while (next < count_ && entries_[next].part != part) ++next;
        entry.hidden.multiply(arithmetic_, entry.down, begin, end, scratch, {y - begin, rows},
                              next < count_ ? row_of(entries_[next].down, begin) : nullptr);
        for (int t = 0; t < entry.tokens; ++t) {
            const float share = entry.share ? entry.share[t] : 1.0f;
            const int token = entry.token ? entry.token[t] : t;
            float* sum = out + static_cast<std::size_t>(token) * width_ + begin;
            const float* row = y + static_cast<std::size_t>(t) * rows;
            for (std::size_t r = 0; r < rows; ++r) sum[r] += share * row[r];
        }
    }
}

void FeedForward::add_parts(const Worker& worker, Tail& tail, float* out) const {
    share(worker, tail, tokens_, [&](int begin, int end) {
        const std::size_t first = static_cast<std::size_t>(begin) * width_;
        const std::size_t last = static_cast<std::size_t>(end) * width_;
        for (int part = 0; part < parts_; ++part) {
            const float* from = part_outputs_ + static_cast<std::size_t>(part * tokens_) * width_;
            for (std::size_t i = first; i < last; ++i) out[i] += from[i];
        }
    });
}

}  // namespace hybrid
