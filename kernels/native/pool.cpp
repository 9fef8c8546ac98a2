#include <cstring>
#include <exception>
#include <thread>

#include "crew.h"

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace hybrid {

std::atomic<double> stall_seconds{60};

namespace {

constexpr Nanoseconds kNap = 100'000'000;  // a sleeper looks for failures this often
constexpr Nanoseconds kGraceOfOthers = 1'000'000'000;

constexpr Generation with_threads(Generation before, int threads) {
    return ((before >> 16) + 1) << 16 | static_cast<Generation>(threads);
}

constexpr int threads_of(Generation generation) {
    return static_cast<int>(generation & 0xffff);
}

// How long a wait has lasted. A gap between two looks counts as 0.1 s at most: a process that was
// stopped, with all its threads, has not waited.
class Watch {
  public:
    bool exceeds(Nanoseconds limit, Nanoseconds now) {
        if (last_ != 0) waited_ += std::min<Nanoseconds>(now - last_, 100'000'000);
        last_ = now;
        return waited_ > limit;
    }

  private:
    Nanoseconds last_ = 0;
    Nanoseconds waited_ = 0;
};

}  // namespace

Nanoseconds stall_limit() {
    return static_cast<Nanoseconds>(stall_seconds.load(std::memory_order_relaxed) * 1e9);
}

void Worker::barrier() {
    if (!clocks.on) return crew->barrier(*this);
    const Nanoseconds begin = now_ns();
    crew->barrier(*this);
    clocks.waiting += now_ns() - begin;
}

std::int32_t Crew::run(int threads, Job job, void* context) {
    if (broken_) return broken_;
    if (threads == 0) threads = size();
    if (threads < 1 || threads > size()) return pool_error(kPoolTooFew, size());
    if (threads > 1 && !members_[1]->has_thread) {  // a forked child
        if (const std::int32_t error = start_threads()) return error;
    }
    bring_caller_home();
    if (failure_.load(std::memory_order_relaxed) != 0) clear_barrier();
    phase_.word.store(0, std::memory_order_relaxed);
    failure_.store(0, std::memory_order_relaxed);
    failure_text_[0] = 0;
    job_ = job;
    context_ = context;
    const Generation next = with_threads(generation_.load(std::memory_order_relaxed), threads);
    publish(next);
    take_part(*members_[0], next);
    wait_for_others(threads);
    return broken_ ? broken_ : failure_.load(std::memory_order_relaxed);
}

// After a failure; else whoever came last has left them at 0.
void Crew::clear_barrier() {
    for (Group& group : groups_) group.arrived.store(0, std::memory_order_relaxed);
    arrived_groups_.store(0, std::memory_order_relaxed);
}

// Sequentially consistent against sleep_until_called(): either the worker sees the generation
// before it sleeps, or this sees that it does.
void Crew::publish(Generation generation) {
    generation_.store(generation);
    const int threads = threads_of(generation);
    for (int index = 1; index < threads; ++index) {
        if (!members_[index]->asleep.load()) continue;
        wake_all(generation_);
        return;
    }
}

#if defined(__GLIBCXX__)
__attribute__((no_sanitize("null")))  // there is no object behind a __forced_unwind
#endif
void Crew::take_part(Member& member, Generation generation) {
    Worker& worker = member.worker;
    worker.count = threads_of(generation);
    if (member.job_threads != worker.count) meet(member, worker.count);
    member.place.store(generation >> 16 << 16, std::memory_order_relaxed);
    inside_job = true;
    try {
        job_(worker, context_);
    } catch (const Aborted&) {
        // whoever failed has told
#if defined(__GLIBCXX__)
    } catch (const abi::__forced_unwind&) {
        throw;  // the thread is ending; leave() tells
#endif
    } catch (const std::exception& error) {
        fail(kPoolThrew, worker.index, error.what());
    } catch (...) {
        fail(kPoolThrew, worker.index, "not a std::exception");
    }
    inside_job = false;
    member.done.word.store(generation);
    member.done.wake();
}

// What depends on who else takes part: places in the node, and whether the CPU is shared.
void Crew::meet(Member& member, int threads) {
    Worker& worker = member.worker;
    worker.node_index = worker.node_count = 0;
    unsigned on_cpu = 0;
    for (int index = 0; index < threads; ++index) {
        on_cpu += members_[index]->cpu == member.cpu;
        if (members_[index]->worker.node != worker.node) continue;
        if (index < worker.index) ++worker.node_index;
        ++worker.node_count;
    }
    static const unsigned everywhere = std::thread::hardware_concurrency();
    member.patience.share_cpu(on_cpu > (member.cpu < 0 ? everywhere : 1));
    member.job_threads = threads;
}

void Crew::fail(HybridPoolError kind, int worker, const char* text) {
    std::int32_t none = 0;
    if (failure_.compare_exchange_strong(none, pool_error(kind, worker)))
        std::strncat(failure_text_, text, sizeof failure_text_ - 1);
    phase_.word.fetch_or(1);
    phase_.wake();
}

void Crew::wait_for_others(int threads) {
    const Generation generation = generation_.load(std::memory_order_relaxed);
    Watch watch;
    for (int index = 1; index < threads; ++index) {
        Member& other = *members_[index];
        bool lost = false;
        const auto ready = [&](Generation done) { return lost || done == generation; };
        const auto slow = [&](Nanoseconds now) {
            const bool ended = other.ended.load(std::memory_order_acquire);
            lost = ended || watch.exceeds(limit_of_waiting(), now);
            if (!lost) return;
            const HybridPoolError kind = ended ? kPoolEnded : kPoolStalled;
            broken_ = pool_error(kind, index);
            fail(kind, index, "");
        };
        const auto sleep = [&](Generation done) { other.done.sleep(done, kNap); };
        members_[0]->patience.until(other.done.word, ready, slow, sleep);
    }
    const std::int32_t failure = failure_.load(std::memory_order_relaxed);
    if (kind_of(failure) == kPoolEnded || kind_of(failure) == kPoolStalled) broken_ = failure;
}

Nanoseconds Crew::limit_of_waiting() const {
    const bool known = kind_of(failure_.load(std::memory_order_relaxed)) == kPoolStalled;
    return known ? std::min(stall_limit(), kGraceOfOthers) : stall_limit();
}

// In groups of four, whose last members then meet: sixteen workers on one counter take turns for
// 1.0 us, in groups for 0.6.
bool Crew::is_last(const Worker& worker) {
    const int group = worker.index / kGroup;
    const int groups = (worker.count + kGroup - 1) / kGroup;
    const int members = std::min(kGroup, worker.count - group * kGroup);
    std::atomic<int>& mine = groups_[group].arrived;
    if (mine.fetch_add(1, std::memory_order_acq_rel) != members - 1) return false;
    mine.store(0, std::memory_order_relaxed);
    if (groups == 1) return true;
    if (arrived_groups_.fetch_add(1, std::memory_order_acq_rel) != groups - 1) return false;
    arrived_groups_.store(0, std::memory_order_relaxed);
    return true;
}

void Crew::barrier(Worker& worker) {
    Member& member = *members_[worker.index];
    const std::uint32_t phase = phase_.word.load(std::memory_order_relaxed);
    if (phase & 1) throw Aborted();
    member.place.store(member.place.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    if (is_last(worker)) {
        const bool failed = phase_.word.fetch_add(2) & 1;
        phase_.wake();
        if (failed) throw Aborted();
        return;
    }
    const auto moved = [&](std::uint32_t at) { return at != phase; };
    Watch watch;
    const auto slow = [&](Nanoseconds now) {
        if (watch.exceeds(stall_limit(), now))
            fail(kPoolStalled, slowest(member, worker.count), "");
    };
    const auto sleep = [&](std::uint32_t at) { phase_.sleep(at, kNap); };
    if (member.patience.until(phase_.word, moved, slow, sleep) & 1) throw Aborted();
}

// The worker that has not come to the barrier at which `waiting` is.
int Crew::slowest(const Member& waiting, int threads) const {
    const Generation here = waiting.place.load(std::memory_order_relaxed);
    for (int index = 0; index < threads; ++index)
        if (members_[index]->place.load(std::memory_order_relaxed) < here) return index;
    return waiting.worker.index;
}

void Crew::serve(Member& member) {
    for (;;) {
        const Generation generation = next_job(member);
        if (threads_of(generation) == 0) return;
        take_part(member, generation);
    }
}

// Waits for the next generation that is this worker's: its job, or the end.
Generation Crew::next_job(Member& member) {
    const Generation before = member.seen;
    const auto called = [&](Generation at) {
        return at != before && (threads_of(at) == 0 || member.worker.index < threads_of(at));
    };
    const auto slow = [](Nanoseconds) {};
    const auto sleep = [&](Generation at) { sleep_until_called(member, at); };
    member.seen = member.patience.until(generation_, called, slow, sleep);
    return member.seen;
}

void Crew::sleep_until_called(Member& member, Generation seen) {
    member.asleep.store(true);
    if (generation_.load() == seen) sleep_while(generation_, seen, kNap);
    member.asleep.store(false, std::memory_order_relaxed);
}

bool is_stalled(std::int32_t code) {
    return kind_of(code) == kPoolStalled;
}

}  // namespace hybrid
