// The threads of one start of the pool, and the lines through which they meet. Inside the pool.
//
//     caller                                   worker i
//     job_, context_            --+
//     generation_  (release)    --+-->  sees another generation (acquire), runs the job
//                                       done (release), its own line
//     waits for every done (acquire)
//
//     barrier: counts itself; the last to come sets the count to 0 and moves phase_ on, on which
//     the others wait. An odd phase_ means that a worker failed: whoever sees it throws Aborted.
//
// One job at a time: run(), grow() and reserve() are called by whoever holds the pool's turn.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pool.h"
#include "pool_border.h"
#include "wait.h"

namespace hybrid {

inline std::int32_t pool_error(HybridPoolError kind, int worker) {
    return kind + 256 * worker;
}

inline HybridPoolError kind_of(std::int32_t error) {
    return static_cast<HybridPoolError>(error & 255);
}

// True on a thread that runs a job's share.
inline thread_local bool inside_job = false;

// A generation is a job's number times 2^16 plus its threads; no threads: the workers end.
using Generation = std::uint64_t;
constexpr int kMostWorkers = 1023;

// What one worker keeps. Its first line is written by itself and read by those who wait for it.
struct alignas(64) Member {
    Awaited<Generation> done;          // the last job whose share it has ended
    std::atomic<Generation> place{0};  // its job's number times 2^16 plus barriers reached
    std::atomic<bool> ended{true};     // it has no thread
    std::atomic<bool> asleep{false};

    alignas(64) Worker worker{};
    int cpu = -1;
    int job_threads = 0;  // of the job for which meet() was done last
    pthread_t thread{};
    bool has_thread = false;
    Generation seen = 0;
    Patience patience;
};

class Crew {
  public:
    Crew();
    ~Crew();
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    std::int32_t grow(const std::int32_t* cpus, const std::int32_t* nodes, int count);
    std::int32_t reserve(std::size_t bytes);
    std::int32_t run(int threads, Job job, void* context);
    // Clocks of all workers at zero, and whether they run from now on.
    void set_clocks(bool on);
    const Clocks& clocks(int worker) const { return members_[worker]->worker.clocks; }
    int size() const { return static_cast<int>(members_.size()); }
    const char* failure_text() const { return failure_text_; }

    // Ends the threads; false when one did not answer within the time: then the crew must stay.
    bool dismiss(Nanoseconds limit);
    // In a forked child, where the threads are not.
    void forget_threads();

    void barrier(Worker& worker);
    // What a worker's thread does, from its start to its end.
    void serve(Member& member);
    // The thread has gone, in whatever way.
    void leave(Member& member);

    // Given up with threads that did not answer.
    Crew* given_up_before = nullptr;

  private:
    std::int32_t start_threads();
    bool start_thread(Member& member);
    void take_part(Member& member, Generation generation);
    void meet(Member& member, int threads);
    void publish(Generation generation);
    void clear_barrier();
    bool is_last(const Worker& worker);
    void wait_for_others(int threads);
    Nanoseconds limit_of_waiting() const;
    void fail(HybridPoolError kind, int worker, const char* text);
    Generation next_job(Member& member);
    void sleep_until_called(Member& member, Generation seen);
    int slowest(const Member& waiting, int threads) const;
    void bring_caller_home();

    // Watched by all workers, written once a job.
    alignas(64) std::atomic<Generation> generation_{0};
    Job job_ = nullptr;
    void* context_ = nullptr;

    static constexpr int kGroup = 4;
    struct alignas(64) Group {
        std::atomic<int> arrived{0};
    };
    Group groups_[kMostWorkers / kGroup + 1];
    alignas(64) std::atomic<int> arrived_groups_{0};
    Awaited<std::uint32_t> phase_;
    alignas(64) std::atomic<std::int32_t> failure_{0};  // of the running job: the first one
    char failure_text_[200] = "";

    std::vector<Member*> members_;
    std::int32_t broken_ = 0;
    std::size_t scratch_bytes_ = 0;
    Nanoseconds caller_moved_ = 0;
};

// Waiting after which a worker counts as stalled.
extern std::atomic<double> stall_seconds;
Nanoseconds stall_limit();

}  // namespace hybrid
