// The worker pool as Python sees it; jobs themselves are started by the ops' own functions.
//
// Every function may be called from several threads at once and waits for the running job. They
// return 0, or an error number: a kind below + 256 * worker.
#pragma once

#include "library.h"

enum HybridPoolError : std::int32_t {
    kPoolOk = 0,
    kPoolThrew = 1,     // the worker's share of the job threw; the next job may run
    kPoolEnded = 2,     // the worker's thread ended within a job; every later job returns this
    kPoolStalled = 3,   // the worker did not answer in time; every later job returns this
    kPoolTooFew = 4,    // the pool has fewer workers than the job asks for
    kPoolNested = 5,    // called from within a job
    kPoolNoThread = 6,  // the system gave no thread to the worker
    kPoolNoMemory = 7,  // the system gave no scratch to the worker
    kPoolBadArgument = 8,
};

// Starts workers until there are `count`, the calling thread being worker 0; those that are there
// already stay as they are.
//   cpus     [count] CPU number per worker, -1: not pinned. A CPU that the system refuses is left
//            unpinned as well.
//   nodes    [count] NUMA node of each, 0 .. nodes - 1
HYBRID_EXPORT std::int32_t hybrid_pool_start(const std::int32_t* cpus, const std::int32_t* nodes,
                                             std::int32_t count);

// Ends the threads and gives the scratch back; the next start begins anew, also after a fault.
HYBRID_EXPORT std::int32_t hybrid_pool_stop();

// Workers there are, the caller's among them: 1 when nothing is started.
HYBRID_EXPORT std::int32_t hybrid_pool_workers();

// Gives every worker at least this much scratch, touched by itself. What was in it is lost when it
// grows.
HYBRID_EXPORT std::int32_t hybrid_pool_reserve(std::size_t bytes);

// How long a worker may keep the others waiting before it counts as stalled; 60 at first. Time in
// which the whole process was stopped does not count.
HYBRID_EXPORT std::int32_t hybrid_pool_set_timeout(double seconds);

// Workers' clocks at zero, and whether they run from now on: each worker then looks at the clock
// before and after every barrier. Off at first.
HYBRID_EXPORT std::int32_t hybrid_pool_clocks(std::int32_t on);

// What the clocks of the first `count` workers have found, in seconds.
//   experts   [count] in routed experts, without waits for other workers
HYBRID_EXPORT std::int32_t hybrid_pool_clocked(double* experts, std::int32_t count);

// What is known of this thread's last error beyond its number: an exception's text, or nothing.
//   returns  zero-terminated, valid until this thread's next call
HYBRID_EXPORT const char* hybrid_pool_error_text();

// Sets the buffer to ones, each worker the part that hybrid_pool_read gives it: memory not yet
// touched then lies on its node.
HYBRID_EXPORT std::int32_t hybrid_pool_fill(void* buffer, std::size_t bytes, std::int32_t threads);

// Reads the buffer once with `threads` workers, each an equal contiguous part in 4 streams.
//   seconds  out: of the reading alone
//   words    out: all that was read in one number, which changes with every bit of it
HYBRID_EXPORT std::int32_t hybrid_pool_read(const void* buffer, std::size_t bytes,
                                            std::int32_t threads, double* seconds,
                                            std::uint64_t* words);

// A job of one barrier and nothing else, in which one worker fails: shows that failures end in
// errors. For one caller at a time.
//   fault    0 none, 1 throws before the barrier, 2 throws after it, 3 ends its thread (not the
//            caller's), 4 sleeps for `seconds` before the barrier
HYBRID_EXPORT std::int32_t hybrid_pool_try_fault(std::int32_t fault, std::int32_t worker,
                                                 std::int32_t threads, double seconds);
