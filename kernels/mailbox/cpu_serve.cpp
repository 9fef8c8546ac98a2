// The dispatcher: waits for a GPU's mailbox, runs the layer's experts on the pool, answers.

#include <atomic>
#include <cstring>
#include <thread>

#include "product_job.h"
#include "serve.h"
#include "wait.h"

namespace hybrid {
namespace {

constexpr Nanoseconds kSlice = 200'000'000;    // of waiting, before the caller looks at signals
constexpr Nanoseconds kNap = 50'000;           // a GPU wakes nobody: what is slept is lost
constexpr Nanoseconds kMostGap = 100'000'000;  // a process that was stopped has not waited

// Words of the mailbox as both sides use them: lock-free, nothing but the word itself.
using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == sizeof(std::uint32_t) && Word::is_always_lock_free);

Word& word(std::uint32_t* at) {
    return *reinterpret_cast<Word*>(at);
}

bool reached(std::uint32_t seen, std::uint32_t number) {
    return static_cast<std::int32_t>(seen - number) >= 0;
}

struct CrossingJob {
    Arithmetic arithmetic;
    Experts experts;
    Mailbox mailbox;
    int tokens;
    JobMemory memory;
    Tail tails[FeedForward::kTails]{};
};

// Each worker clears its part of y; the feed-forward has a barrier before it adds to it.
void clear_part(const Worker& worker, float* y, std::size_t count) {
    const auto workers = static_cast<std::size_t>(worker.count);
    const auto index = static_cast<std::size_t>(worker.index);
    const std::size_t begin = count * index / workers, end = count * (index + 1) / workers;
    std::memset(y + begin, 0, (end - begin) * sizeof(float));
}

void run_crossing(Worker& worker, void* context) {
    auto& job = *static_cast<CrossingJob*>(context);
    const Mailbox& mailbox = job.mailbox;
    const auto width = static_cast<std::size_t>(mailbox.width);
    clear_part(worker, mailbox.y, width * static_cast<std::size_t>(job.tokens));
    Memory shared = job.memory.shared(worker), own = job.memory.own(worker);
    FeedForward experts(job.arithmetic, own, shared, mailbox.x, width, job.tokens,
                        most_entries(job.experts, job.tokens));
    experts.add(job.experts, mailbox.chosen, mailbox.share);
    experts.run(worker, job.tails, mailbox.y);
}

// kServeDone when the next crossing is posted.
std::int32_t await_post(ServedStep& step, const ServedMailbox& mailbox) {
    thread_local Patience patience;  // knows whether the machine is crowded
    const std::uint32_t number = mailbox.number + 1;
    Word& gave_up = word(mailbox.at.from_gpu + 1);
    std::int32_t result = kServeDone;
    const Nanoseconds begin = now_ns();
    Nanoseconds last = begin;
    const auto ready = [&](std::uint32_t seen) {
        return result != kServeDone || reached(seen, number);
    };
    const auto slow = [&](Nanoseconds now) {
        step.silent_s += static_cast<double>(std::min(now - last, kMostGap)) * 1e-9;
        last = now;
        if (gave_up.load(std::memory_order_relaxed)) {
            result = kServeGaveUp;
        } else if (step.silent_s > step.limit_s) {
            result = kServeSilent;
        } else if (now - begin > kSlice) {
            result = kServePaused;
        }
    };
    const auto sleep = [](std::uint32_t) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(kNap));
    };
    const std::uint32_t seen = patience.until(word(mailbox.at.from_gpu), ready, slow, sleep);
    return reached(seen, number) ? kServeDone : result;
}

std::int32_t answer(const ServedStep& step, const ServedLayer& layer) {
    const auto arithmetic = arithmetic_of(step.tier, step.precision);
    const auto needs = FeedForward::needs(arithmetic, *layer.experts, step.tokens);
    ServedMailbox& mailbox = *layer.mailbox;
    const std::int32_t error = run_kept<CrossingJob>(
        step.threads, run_crossing, arithmetic, *layer.experts, mailbox.at, step.tokens,
        JobMemory(step.workspace, step.workspace_bytes, needs.own));
    if (error) return error;
    ++mailbox.number;
    word(mailbox.at.from_cpu).store(mailbox.number, std::memory_order_release);
    return kServeDone;
}

double seconds_between(Nanoseconds begin, Nanoseconds end) {
    return static_cast<double>(end - begin) * 1e-9;
}

}  // namespace
}  // namespace hybrid

std::int64_t hybrid_serve_bytes(const hybrid::ServedLayer* layers, std::int32_t count,
                                std::int32_t tier, std::int32_t precision, std::int32_t tokens,
                                std::int32_t threads) {
    std::int64_t most = 0;
    for (int i = 0; i < count; ++i) {
        for (int t = 1; t <= tokens; ++t) {
            const std::int64_t bytes =
                hybrid_expert_ffn_bytes(tier, precision, layers[i].experts, t, threads);
            most = std::max(most, bytes);
        }
    }
    return most;
}

std::int32_t hybrid_serve(hybrid::ServedStep* step) {
    for (; step->next < step->count; ++step->next) {
        hybrid::ServedLayer& layer = step->layers[step->next];
        const hybrid::Nanoseconds begin = hybrid::now_ns();
        std::int32_t result = hybrid::await_post(*step, *layer.mailbox);
        const hybrid::Nanoseconds posted = hybrid::now_ns();
        layer.waited_s += hybrid::seconds_between(begin, posted);
        if (result == kServePaused) return result;
        if (result == kServeDone) result = hybrid::answer(*step, layer);
        if (result != kServeDone) {
            hybrid_abandon(step);
            return result;
        }
        step->silent_s = 0;
        layer.computed_s += hybrid::seconds_between(posted, hybrid::now_ns());
    }
    return kServeDone;
}

void hybrid_abandon(const hybrid::ServedStep* step) {
    for (int i = 0; i < step->mailbox_count; ++i) {
        hybrid::word(step->mailboxes[i]->at.from_cpu + 1).store(1, std::memory_order_release);
    }
}
