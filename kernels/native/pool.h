// The worker pool: one per process, pinned threads that spin on one line. Nothing here names an op.
//
// A job runs on the calling thread (worker 0) and on the first workers of the pool; run_job returns
// when all have ended. Starting one costs a store that every worker watches: no lock, no
// allocation, no system call. Which CPUs: pool_border.h, hybrid_pool_start.
//
//     struct Context { Tail gate_up, down; ... };
//     void ffn(Worker& worker, void* context) {
//         auto& job = *static_cast<Context*>(context);
//         share(worker, job.gate_up, 132, [&](int begin, int end) { ... });
//         worker.barrier();   // what any worker wrote before it, every worker reads after it
//         share(worker, job.down, 64, [&](int begin, int end) { ... });
//     }
//     int error = run_job(threads, ffn, &context);
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace hybrid {

class Crew;  // the threads of one start, in pool.cpp

// Leaves a job whose other worker failed. A job may let it pass; it must not swallow it.
struct Aborted {};

// Nanoseconds of one worker since somebody asked for them (hybrid_pool_clocks): written by itself,
// within jobs only.
struct Clocks {
    bool on = false;
    std::int64_t waiting = 0;  // in barriers
    std::int64_t experts = 0;  // in routed experts, without barriers
};

// What a job sees of the thread it runs on. Valid during the job only.
struct Worker {
    int index;           // 0 .. count - 1; 0 is the calling thread
    int count;           // workers of this job
    int node;            // 0 .. nodes - 1, the NUMA node of its CPU in dense numbering
    int node_index;      // its number among this job's workers of that node
    int node_count;      // how many those are
    std::byte* scratch;  // 64-byte aligned, its own, touched first by itself; kept between jobs
    std::size_t scratch_bytes;

    // Until every worker of the job has come. Throws Aborted when another one failed.
    void barrier();

    Crew* crew = nullptr;
    Clocks clocks{};
};

// May throw: the job then ends for all workers and run_job returns an error.
using Job = void (*)(Worker&, void* context);

// Runs the job on workers 0 .. threads - 1 and returns when all have ended: 0, or an error number
// (pool_border.h). 0 threads: all the pool has. Calls from several threads take turns; a call from
// within a job is a mistake and returns kPoolNested.
//
// After kPoolStalled a worker may still be at work on the context: the pool refuses every later
// job, and context and what it points to must outlive the process (run_kept).
int run_job(int threads, Job job, void* context);

// Whether an error number says that a worker may still be at work.
bool is_stalled(std::int32_t code);

// A job's context in memory that the calling thread keeps from call to call, so that it is there
// for a worker that stalled and goes on later; that memory is then given up.
//   fields   of the context, in order; those left out are fresh
template <class Context, class... Fields>
std::int32_t run_kept(int threads, Job job, Fields&&... fields) {
    struct Place {
        void* memory = nullptr;
        ~Place() { ::operator delete(memory, std::align_val_t{alignof(Context)}); }
    };
    thread_local Place place;
    if (!place.memory) {
        place.memory = ::operator new(sizeof(Context), std::align_val_t{alignof(Context)});
    }
    auto* context = new (place.memory) Context{std::forward<Fields>(fields)...};
    const std::int32_t code = run_job(threads, job, context);
    if (is_stalled(code)) place.memory = nullptr;
    return code;
}

// How many pieces of one phase were handed out; zero before the job.
struct Tail {
    alignas(64) std::atomic<int> next{0};
};

struct Piece {
    int begin, end;
};

// The piece of 0 .. units - 1 that comes as number `ticket`: as many pieces as workers take half of
// all units, as many again half of the rest, and so on down to pieces of one. Empty: none is left.
inline Piece piece_of(int units, int workers, int ticket) {
    for (int begin = 0;; ticket -= workers) {
        const int size = (units - begin) / (2 * workers);
        if (size <= 1)
            return {std::min(begin + ticket, units), std::min(begin + ticket + 1, units)};
        if (ticket < workers) return {begin + ticket * size, begin + (ticket + 1) * size};
        begin += workers * size;
    }
}

// Runs run(begin, end) over pieces of 0 .. units - 1 while there are any.
//   workers   as many as will come for them; all of them say the same
template <class Run>
void take_pieces(Tail& tail, int units, int workers, const Run& run) {
    for (;;) {
        const int ticket = tail.next.fetch_add(1, std::memory_order_relaxed);
        const Piece piece = piece_of(units, workers, ticket);
        if (piece.begin == piece.end) return;
        run(piece.begin, piece.end);
    }
}

// Runs run(begin, end) over this worker's part of 0 .. units - 1: an equal contiguous range of the
// first 7/8, the same in every job, then pieces of the rest while there are any. Every unit is run
// once by one worker.
template <class Run>
void share(const Worker& worker, Tail& tail, int units, const Run& run) {
    const int shared = worker.count == 1 ? 0 : units / 8;
    const std::int64_t fixed = units - shared;
    const int begin = static_cast<int>(fixed * worker.index / worker.count);
    const int end = static_cast<int>(fixed * (worker.index + 1) / worker.count);
    if (begin < end) run(begin, end);
    const int rest = static_cast<int>(fixed);
    take_pieces(tail, shared, worker.count,
                [&](int first, int last) { run(rest + first, rest + last); });
}

}  // namespace hybrid
