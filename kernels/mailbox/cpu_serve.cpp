// The dispatcher: waits for a GPU's mailbox, runs the layer's experts on the pool, answers.

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "product_job.h"
#include "serve.h"
#include "wait.h"

namespace hybrid {
namespace {

constexpr Nanoseconds kSlice = 200'000'000;    // of waiting, before the caller looks at signals
constexpr Nanoseconds kNap = 50'000;           // a GPU wakes nobody: what is slept is lost
constexpr Nanoseconds kMostGap = 100'000'000;  // a process that was stopped has not waited

double seconds_between(Nanoseconds begin, Nanoseconds end) {
    return static_cast<double>(end - begin) * 1e-9;
}

// Parts of the mailbox as both sides use them: lock-free, nothing but the number or word itself.
using Number = std::atomic<std::uint32_t>;
using Word = std::atomic<std::uint64_t>;
static_assert(sizeof(Number) == sizeof(std::uint32_t) && Number::is_always_lock_free);
static_assert(sizeof(Word) == sizeof(std::uint64_t) && Word::is_always_lock_free);

Number& shared(std::uint32_t* at) {
    return *reinterpret_cast<Number*>(at);
}

Word& shared(std::uint64_t* at) {
    return *reinterpret_cast<Word*>(at);
}

std::uint32_t number_of(std::uint32_t seen) {
    return seen;
}

std::uint32_t number_of(std::uint64_t seen) {
    return static_cast<std::uint32_t>(seen >> 32);
}

// One crossing's choice as plain arrays, taken of the front of the workspace.
struct Chosen {
    std::int32_t* expert;
    float* share;

    static std::size_t bytes_each(const Mailbox& mailbox, int tokens) {
        return whole_lines(static_cast<std::size_t>(tokens * mailbox.used) * sizeof(float));
    }
    static std::size_t bytes(const Mailbox& mailbox, int tokens) {
        return 2 * bytes_each(mailbox, tokens);
    }
    Chosen(void* first, const Mailbox& mailbox, int tokens)
        : expert(static_cast<std::int32_t*>(first)),
          share(reinterpret_cast<float*>(static_cast<std::byte*>(first) +
                                         bytes_each(mailbox, tokens))) {}
};

struct CrossingJob {
    Arithmetic arithmetic;
    Experts experts;
    Mailbox mailbox;
    Chosen chosen;
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
    Memory common = job.memory.shared(worker), own = job.memory.own(worker);
    FeedForward experts(job.arithmetic, own, common, mailbox.x, width, job.tokens,
                        most_entries(job.experts, job.tokens));
    experts.add(job.experts, job.chosen.expert, job.chosen.share);
    experts.run(worker, job.tails, mailbox.y);
}

// kServeDone when what stands at `at` is of this crossing; it is then in `seen`.
template <class Value>
std::int32_t await(ServedStep& step, const Mailbox& mailbox, Value* at, std::uint32_t number,
                   Value& seen) {
    thread_local Patience patience;  // knows whether the machine is crowded
    seen = shared(at).load(std::memory_order_acquire);
    if (number_of(seen) == number) return kServeDone;
    std::int32_t result = kServeDone;
    const Nanoseconds begin = now_ns();
    Nanoseconds last = begin;
    const auto ready = [&](Value here) {
        return result != kServeDone || number_of(here) == number;
    };
    const auto slow = [&](Nanoseconds now) {
        step.silent_s += seconds_between(0, std::min(now - last, kMostGap));
        last = now;
        if (shared(mailbox.from_gpu).load(std::memory_order_relaxed)) {
            result = kServeGaveUp;
        } else if (step.silent_s > step.limit_s) {
            result = kServeSilent;
        } else if (now - begin > kSlice) {
            result = kServePaused;
        }
    };
    const auto sleep = [](Value) { std::this_thread::sleep_for(std::chrono::nanoseconds(kNap)); };
    seen = patience.until(shared(at), ready, slow, sleep);
    return number_of(seen) == number ? kServeDone : result;
}

// kServeDone when the next crossing is posted. x mostly comes first, while the GPU still chooses.
std::int32_t await_post(ServedStep& step, const ServedMailbox& mailbox, const Chosen& chosen) {
    const std::uint32_t number = mailbox.number + 1;
    for (int i = 0; i < step.tokens * mailbox.at.used; ++i) {
        std::uint64_t* const words = mailbox.at.choice + 2 * i;
        std::uint64_t expert = 0, share = 0;
        if (const auto result = await(step, mailbox.at, words, number, expert)) return result;
        if (const auto result = await(step, mailbox.at, words + 1, number, share)) return result;
        const auto bits = static_cast<std::uint32_t>(share);
        chosen.expert[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(expert));
        std::memcpy(chosen.share + i, &bits, sizeof bits);
    }
    const int stretches = (mailbox.at.width + kStretch - 1) / kStretch;
    for (int i = 0; i < stretches; ++i) {
        std::uint32_t seen = 0;
        if (const auto result = await(step, mailbox.at, mailbox.at.posted + i, number, seen))
            return result;
    }
    return kServeDone;
}

void refuse_memory(Worker&, void*) {
    throw std::length_error("a job's memory is too small");
}

std::int32_t answer(const ServedStep& step, const ServedLayer& layer, const Chosen& chosen) {
    const auto arithmetic = arithmetic_of(step.tier, step.precision);
    const auto needs = FeedForward::needs(arithmetic, *layer.experts, step.tokens);
    ServedMailbox& mailbox = *layer.mailbox;
    const std::size_t front = Chosen::bytes(mailbox.at, step.tokens);
    const std::int32_t error = run_kept<CrossingJob>(
        step.threads, run_crossing, arithmetic, *layer.experts, mailbox.at, chosen, step.tokens,
        JobMemory(static_cast<std::byte*>(step.workspace) + front,
                  step.workspace_bytes - static_cast<std::int64_t>(front), needs.own));
    if (error) return error;
    ++mailbox.number;
    for (int line = 0; line < kLines; ++line)
        shared(mailbox.at.from_cpu + line * kWordsOfLine)
            .store(mailbox.number, std::memory_order_release);
    return kServeDone;
}

std::int32_t serve_layer(ServedStep& step, ServedLayer& layer) {
    const Mailbox& mailbox = layer.mailbox->at;
    if (step.workspace_bytes < static_cast<std::int64_t>(Chosen::bytes(mailbox, step.tokens)))
        return run_job(1, refuse_memory, nullptr);
    const Chosen chosen(step.workspace, mailbox, step.tokens);
    const Nanoseconds begin = now_ns();
    std::int32_t result = await_post(step, *layer.mailbox, chosen);
    const Nanoseconds posted = now_ns();
    layer.waited_s += seconds_between(begin, posted);
    if (result == kServeDone) result = answer(step, layer, chosen);
    if (result != kServeDone) return result;
    step.silent_s = 0;
    layer.computed_s += seconds_between(posted, now_ns());
    return kServeDone;
}

}  // namespace
}  // namespace hybrid

std::int64_t hybrid_serve_bytes(const hybrid::ServedLayer* layers, std::int32_t count,
                                std::int32_t tier, std::int32_t precision, std::int32_t tokens,
                                std::int32_t threads) {
    std::int64_t most = 0;
    for (int i = 0; i < count; ++i) {
        for (int t = 1; t <= tokens; ++t) {
            const std::size_t front = hybrid::Chosen::bytes(layers[i].mailbox->at, t);
            const std::int64_t job =
                hybrid_expert_ffn_bytes(tier, precision, layers[i].experts, t, threads);
            most = std::max(most, static_cast<std::int64_t>(front) + job);
        }
    }
    return most;
}

std::int32_t hybrid_serve(hybrid::ServedStep* step) {
    for (; step->next < step->count; ++step->next) {
        const std::int32_t result = hybrid::serve_layer(*step, step->layers[step->next]);
        if (result == kServeDone) continue;
        if (result != kServePaused) hybrid_abandon(step);
        return result;
    }
    return kServeDone;
}

void hybrid_abandon(const hybrid::ServedStep* step) {
    for (int i = 0; i < step->mailbox_count; ++i) {
        std::uint32_t* const lines = step->mailboxes[i]->at.from_cpu;
        for (int line = 0; line < hybrid::kLines; ++line)
            hybrid::shared(lines + line * hybrid::kWordsOfLine + 1)
                .store(1, std::memory_order_release);
    }
}
