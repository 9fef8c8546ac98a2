// A block on one CPU thread: its threads are fibers, which take turns at the points where they
// wait.
//
//   scheduler --- resume ---> thread 0 ... meets ---> scheduler --- resume ---> thread 1 ...
//
// A fiber is made by makecontext and switched by _setjmp and _longjmp: those make no system call,
// so that a switch takes nanoseconds. The order of the threads turns round from pass to pass, since
// a missing barrier often shows in one order only.
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace hybrid::emulator {

constexpr int kLanes = 32;
constexpr size_t kStackBytes = 256 << 10;
constexpr uint64_t kStackEnd = 0x5afe57ac5afe57acull;  // lies at the end that a stack grows to
constexpr int kPoison = 0xff;                          // a NaN in every float format
constexpr size_t kFenceBytes = 4096;                   // behind the dynamic shared memory

enum class At : uint8_t { running, warp, block, returned };

struct Thread {
    At at = At::running;
    bool started = false;
    const char* operation = "";
    const char* file = "";
    int line = 0;
    unsigned mask = 0;
    uint64_t value = 0;
    jmp_buf place;
    ucontext_t start;
    char* stack = nullptr;
};

struct Warp {
    unsigned alive = 0;    // lanes that have not returned
    unsigned waiting = 0;  // lanes at a meeting point of the warp
    unsigned present = 0;  // lanes whose values `met` holds
    uint64_t met[kLanes];
};

// Some of the block's threads, by number: those here, and how often all came.
struct Meeting {
    int here, past;
};

struct Block {
    unsigned grid[3], index[3];
    int count;
    int current = 0;
    int alive = 0, waiting = 0;  // threads that have not returned, and those at __syncthreads
    bool failed = false;
    Meeting meetings[16];
    Thread* threads;
    Warp* warps;
    unsigned char* dynamic_shared;
    void (*body)(const void* kernel, const void* record);
    const void* kernel;
    const void* record;
    char* message;
    size_t message_bytes;
    jmp_buf scheduler;
};

// The only thread_local besides the kernels' __shared__ arrays: see poison_shared.
inline thread_local Block* active = nullptr;

[[noreturn]] inline void to_scheduler() {
    _longjmp(active->scheduler, 1);
}

inline void write_fault(Block& block, const char* format, va_list arguments) {
    const int length =
        snprintf(block.message, block.message_bytes, "block (%u, %u, %u): ", block.index[0],
                 block.index[1], block.index[2]);
    vsnprintf(block.message + length, block.message_bytes - length, format, arguments);
    block.failed = true;
}

inline void fault(Block& block, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_fault(block, format, arguments);
    va_end(arguments);
}

// Ends the launch from inside a thread.
[[noreturn]] inline void stop(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_fault(*active, format, arguments);
    va_end(arguments);
    to_scheduler();
}

inline bool same_place(const Thread& one, const Thread& other) {
    return one.line == other.line && one.mask == other.mask && one.at == other.at &&
           strcmp(one.file, other.file) == 0 && strcmp(one.operation, other.operation) == 0;
}

inline void check_same_place(Block& block, int first, int second) {
    const Thread& one = block.threads[first];
    const Thread& other = block.threads[second];
    if (block.failed || same_place(one, other)) return;
    fault(block, "threads diverge: %d waits at %s (%s:%d) and %d at %s (%s:%d)", first,
          one.operation, one.file, one.line, second, other.operation, other.file, other.line);
}

// Lets go the lanes that wait with thread `number` if all of its mask are there.
inline bool release_warp(Block& block, int number) {
    Warp& warp = block.warps[number / kLanes];
    const int first = number / kLanes * kLanes;
    const unsigned wanted = block.threads[number].mask & warp.alive;
    if ((warp.waiting & wanted) != wanted) return false;
    warp.present = wanted;
    warp.waiting &= ~wanted;
    for (int lane = 0; lane < kLanes; ++lane) {
        if (!(wanted >> lane & 1)) continue;
        check_same_place(block, number, first + lane);
        warp.met[lane] = block.threads[first + lane].value;
    }
    for (int lane = 0; lane < kLanes; ++lane)
        if (wanted >> lane & 1) block.threads[first + lane].at = At::running;
    return true;
}

inline bool release_block(Block& block) {
    if (block.waiting == 0 || block.waiting < block.alive) return false;
    int first = -1;
    for (int number = 0; number < block.count; ++number) {
        if (block.threads[number].at != At::block) continue;
        if (first < 0) first = number;
        check_same_place(block, first, number);
    }
    for (int number = 0; number < block.count; ++number)
        if (block.threads[number].at == At::block) block.threads[number].at = At::running;
    block.waiting = 0;
    return true;
}

// A thread that returned is waited for no more.
inline void return_from(Block& block, int number) {
    block.threads[number].at = At::returned;
    Warp& warp = block.warps[number / kLanes];
    warp.alive &= ~(1u << number % kLanes);
    --block.alive;
    for (int lane = 0; lane < kLanes; ++lane)
        if (warp.waiting >> lane & 1) release_warp(block, number / kLanes * kLanes + lane);
    release_block(block);
}

// The calling thread waits at `where` until those it waits for are there too.
inline void meet(At where, const char* operation, unsigned mask, int line, const char* file) {
    Block& block = *active;
    Thread& self = block.threads[block.current];
    self.at = where;
    self.operation = operation;
    self.line = line;
    self.file = file;
    self.mask = mask;
    bool all_here;
    if (where == At::warp) {
        const unsigned own = 1u << block.current % kLanes;
        if (!(mask & own)) stop("thread %d is not in the mask of its %s", block.current, operation);
        block.warps[block.current / kLanes].waiting |= own;
        all_here = release_warp(block, block.current);
    } else {
        ++block.waiting;
        all_here = release_block(block);
    }
    if (block.failed) to_scheduler();
    if (!all_here && _setjmp(self.place) == 0) to_scheduler();
}

// Lets the other threads of the block run once: what a thread does that polls memory.
inline void yield_thread() {
    if (_setjmp(active->threads[active->current].place) == 0) to_scheduler();
}

inline void live() {
    for (;;) {
        Block& block = *active;
        block.body(block.kernel, block.record);
        return_from(block, block.current);
        if (_setjmp(block.threads[block.current].place) == 0) to_scheduler();
    }
}

[[gnu::noinline]] inline void resume(Block& block, int number) {
    Thread& thread = block.threads[number];
    block.current = number;
    if (_setjmp(block.scheduler) != 0) return;
    if (thread.started) _longjmp(thread.place, 1);
    thread.started = true;
    setcontext(&thread.start);
}

inline void report_deadlock(Block& block) {
    int length = 0;
    char waiting[512] = "";
    for (int number = 0; number < block.count && length < 400; ++number) {
        const Thread& thread = block.threads[number];
        if (thread.at == At::returned) continue;
        if (number > 0 && same_place(thread, block.threads[number - 1])) continue;
        length +=
            snprintf(waiting + length, sizeof(waiting) - length, "; %d waits at %s (%.60s:%d)",
                     number, thread.operation, thread.file, thread.line);
    }
    fault(block, "deadlock, %d of %d threads have returned%s", block.count - block.alive,
          block.count, waiting);
}

inline void enter_block(Block& block) {
    block.alive = block.count;
    block.waiting = 0;
    for (Meeting& meeting : block.meetings) meeting = {0, 0};
    for (int number = 0; number < block.count; ++number) {
        block.threads[number].at = At::running;
        Warp& warp = block.warps[number / kLanes];
        if (number % kLanes == 0) warp.alive = warp.waiting = warp.present = 0;
        warp.alive |= 1u << number % kLanes;
    }
}

// At once, since the next thread to run may be the one whose stack was written over.
inline void check_stack(Block& block, int number) {
    if (memcmp(block.threads[number].stack, &kStackEnd, sizeof(kStackEnd)) != 0)
        fault(block, "thread %d needs more than %zu bytes of stack", number, kStackBytes);
}

inline void run_block(Block& block) {
    enter_block(block);
    for (unsigned pass = block.index[0]; block.alive > 0; ++pass) {
        bool moved = false;
        for (int turn = 0; turn < block.count; ++turn) {
            const int number = pass & 1 ? block.count - 1 - turn : turn;
            if (block.threads[number].at != At::running) continue;
            resume(block, number);
            check_stack(block, number);
            if (block.failed) return;
            moved = true;
        }
        if (!moved) return report_deadlock(block);
    }
}

}  // namespace hybrid::emulator
