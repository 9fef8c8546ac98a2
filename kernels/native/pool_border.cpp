#include "pool_border.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "crew.h"

namespace hybrid {

namespace {

constexpr Nanoseconds kStopping = 1'000'000'000;
constexpr Nanoseconds kUnloading = 200'000'000;

thread_local char error_text[200] = "";

// Whose turn it is to use the pool: first come, first served, so that of two engines neither
// starves. Free, it costs two uncontended atomics.
class Turns {
  public:
    void take() {
        const std::uint32_t mine = next_.fetch_add(1, std::memory_order_relaxed);
        wait_for(mine);
    }

    // Takes the turn only if nobody has it within the time.
    bool take_within(Nanoseconds limit) {
        const Nanoseconds deadline = now_ns() + limit;
        do {
            std::uint32_t free = serving_.word.load(std::memory_order_acquire);
            if (next_.compare_exchange_strong(free, free + 1, std::memory_order_acquire))
                return true;
            std::this_thread::yield();
        } while (now_ns() < deadline);
        return false;
    }

    void pass_on() {
        serving_.word.store(serving_.word.load(std::memory_order_relaxed) + 1);
        serving_.wake();
    }

    void forget() {
        next_.store(0);
        serving_.word.store(0);
        serving_.sleepers.store(0);
    }

  private:
    void wait_for(std::uint32_t mine) {
        const auto mine_now = [&](std::uint32_t at) { return at == mine; };
        const auto sleep = [&](std::uint32_t at) { serving_.sleep(at, kNap); };
        Patience().until(serving_.word, mine_now, [](Nanoseconds) {}, sleep);
    }

    static constexpr Nanoseconds kNap = 1'000'000'000;
    std::atomic<std::uint32_t> next_{0};
    Awaited<std::uint32_t> serving_;
};

Turns turns;

// Whoever has the turn reads and writes these.
Crew* the_crew = nullptr;
Crew* given_up = nullptr;

class Turn {
  public:
    Turn() { turns.take(); }
    ~Turn() { turns.pass_on(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
};

void before_fork() {
    if (!inside_job) turns.take();
}

void after_fork_in_parent() {
    if (!inside_job) turns.pass_on();
}

void after_fork_in_child() {
    turns.forget();
    if (the_crew) the_crew->forget_threads();
}

// With the turn. Throws std::bad_alloc.
Crew& crew() {
    if (the_crew == nullptr) {
        static const int registered =
            pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
        (void)registered;
        the_crew = new Crew;
    }
    return *the_crew;
}

// A crew that still has threads is left to them: they end with the process.
void dismiss(Nanoseconds limit) {
    if (the_crew == nullptr) return;
    if (the_crew->dismiss(limit)) {
        delete the_crew;
    } else {
        the_crew->given_up_before = given_up;
        given_up = the_crew;
    }
    the_crew = nullptr;
}

// When the library is unloaded or the process ends: a worker must not spin in code that is gone.
struct AtUnload {
    ~AtUnload() {
        if (!inside_job && turns.take_within(kUnloading)) dismiss(kUnloading);
    }
} at_unload;

// act(crew) in this thread's turn.
template <class Act>
std::int32_t in_turn(const Act& act) {
    error_text[0] = 0;
    if (inside_job) return kPoolNested;
    const Turn turn;
    try {
        const std::int32_t error = act(crew());
        if (error != 0) std::memcpy(error_text, the_crew->failure_text(), sizeof error_text);
        return error;
    } catch (const std::bad_alloc&) {
        return kPoolNoMemory;
    }
}

}  // namespace

int run_job(int threads, Job job, void* context) {
    return in_turn([&](Crew& crew) { return crew.run(threads, job, context); });
}

}  // namespace hybrid

std::int32_t hybrid_pool_start(const std::int32_t* cpus, const std::int32_t* nodes,
                               std::int32_t count) {
    if (count < 1 || count > hybrid::kMostWorkers) return kPoolBadArgument;
    return hybrid::in_turn([&](hybrid::Crew& crew) { return crew.grow(cpus, nodes, count); });
}

std::int32_t hybrid_pool_stop() {
    if (hybrid::inside_job) return kPoolNested;
    const hybrid::Turn turn;
    hybrid::dismiss(std::min(hybrid::kStopping, hybrid::stall_limit()));
    return kPoolOk;
}

std::int32_t hybrid_pool_workers() {
    if (hybrid::inside_job) return hybrid::the_crew->size();  // the turn is taken
    const hybrid::Turn turn;
    return hybrid::the_crew ? hybrid::the_crew->size() : 1;
}

std::int32_t hybrid_pool_reserve(std::size_t bytes) {
    return hybrid::in_turn([&](hybrid::Crew& crew) { return crew.reserve(bytes); });
}

std::int32_t hybrid_pool_set_timeout(double seconds) {
    if (!(seconds > 0 && seconds <= 1e6)) return kPoolBadArgument;
    hybrid::stall_seconds.store(seconds, std::memory_order_relaxed);
    return kPoolOk;
}

std::int32_t hybrid_pool_clocks(std::int32_t on) {
    return hybrid::in_turn([&](hybrid::Crew& crew) {
        crew.set_clocks(on != 0);
        return kPoolOk;
    });
}

std::int32_t hybrid_pool_clocked(double* experts, std::int32_t count) {
    return hybrid::in_turn([&](hybrid::Crew& crew) -> std::int32_t {
        if (count > crew.size()) return hybrid::pool_error(kPoolTooFew, crew.size());
        for (int i = 0; i < count; ++i)
            experts[i] = static_cast<double>(crew.clocks(i).experts) * 1e-9;
        return kPoolOk;
    });
}

const char* hybrid_pool_error_text() {
    return hybrid::error_text;
}
