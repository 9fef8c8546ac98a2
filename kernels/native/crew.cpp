#include "crew.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace hybrid {

namespace {

#if defined(__linux__)
void pin(pthread_t thread, int cpu) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    pthread_setaffinity_np(thread, sizeof only, &only);
}
#else
void pin(pthread_t, int) {}
#endif

// Its destructor runs however the thread ends.
struct Farewell {
    Crew* crew = nullptr;
    Member* member = nullptr;
    ~Farewell() {
        if (crew) crew->leave(*member);
    }
};

thread_local Farewell farewell;

extern "C" void* worker_main(void* argument) {
    auto& member = *static_cast<Member*>(argument);
    farewell.member = &member;
    farewell.crew = member.worker.crew;
    member.worker.crew->serve(member);
    return nullptr;
}

// Signals are for the program's own threads; those of a fault in a job stay the worker's.
void block_signals(sigset_t* before) {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
        sigdelset(&blocked, own);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

std::byte* aligned(std::size_t bytes) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
    const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
    return static_cast<std::byte*>(whole < bytes ? nullptr : std::aligned_alloc(alignment, whole));
}

void grow_scratch(Worker& worker, void* context) {
    const std::size_t bytes = *static_cast<const std::size_t*>(context);
    if (bytes <= worker.scratch_bytes) return;
    std::byte* const grown = aligned(bytes);
    if (grown == nullptr) throw std::bad_alloc();
    std::memset(grown, 0, bytes);  // the first touch decides on which node the pages lie
    std::free(worker.scratch);
    worker.scratch = grown;
    worker.scratch_bytes = bytes;
}

}  // namespace

Nanoseconds waited_for_cpu() {
    // "time run, time waited, turns", in ns
    const int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    char text[96] = "";
    const ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    const char* const second = length > 0 ? std::strchr(text, ' ') : nullptr;
    return second ? std::strtoll(second, nullptr, 10) : -1;
}

Crew::Crew() {
    const std::int32_t anywhere = -1, node = 0;
    grow(&anywhere, &node, 1);
}

Crew::~Crew() {
    for (Member* member : members_) {
        std::free(member->worker.scratch);
        delete member;
    }
}

std::int32_t Crew::grow(const std::int32_t* cpus, const std::int32_t* nodes, int count) {
    if (broken_) return broken_;
    for (int index = 0; index < count; ++index) {
        if (index == size()) {
            members_.push_back(new Member);
            members_[index]->worker.crew = this;
            members_[index]->worker.index = index;
        } else if (size() > 1) {
            continue;  // already there; a lone caller has not been given its CPU yet
        }
        members_[index]->cpu = cpus[index];
        members_[index]->worker.node = nodes[index];
    }
    for (Member* member : members_) member->job_threads = 0;
    const std::int32_t refused = start_threads();
    const std::int32_t short_of = scratch_bytes_ == 0 ? 0 : reserve(scratch_bytes_);
    return refused ? refused : short_of;  // those that did start have their scratch
}

// Threads of all workers that have none; where the system refuses one, its worker and those after
// it are given up.
std::int32_t Crew::start_threads() {
    for (int index = 1; index < size(); ++index) {
        if (members_[index]->has_thread) continue;
        if (start_thread(*members_[index])) continue;
        while (size() > index) {
            std::free(members_.back()->worker.scratch);
            delete members_.back();
            members_.pop_back();
        }
        return pool_error(kPoolNoThread, index);
    }
    return 0;
}

bool Crew::start_thread(Member& member) {
    member.seen = generation_.load(std::memory_order_relaxed);
    member.ended.store(false, std::memory_order_relaxed);
    sigset_t before;
    block_signals(&before);
    const int refused = pthread_create(&member.thread, nullptr, worker_main, &member);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (refused) member.ended.store(true, std::memory_order_relaxed);
    member.has_thread = refused == 0;
    if (member.has_thread) pin(member.thread, member.cpu);
    return member.has_thread;
}

std::int32_t Crew::reserve(std::size_t bytes) {
    const std::int32_t error = run(size(), grow_scratch, &bytes);
    if (kind_of(error) == kPoolThrew) return pool_error(kPoolNoMemory, error / 256);
    if (error == 0) scratch_bytes_ = std::max(scratch_bytes_, bytes);
    return error;
}

void Crew::set_clocks(bool on) {
    for (Member* member : members_) member->worker.clocks = Clocks{on, 0, 0};
}

bool Crew::dismiss(Nanoseconds limit) {
    publish(((generation_.load(std::memory_order_relaxed) >> 16) + 1) << 16);
    wake_all(generation_);
    const Nanoseconds deadline = now_ns() + limit;
    bool all_ended = true;
    for (Member* member : members_) {
        if (!member->has_thread) continue;
        while (!member->ended.load(std::memory_order_acquire) && now_ns() < deadline)
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        if (member->ended.load(std::memory_order_acquire)) {
            pthread_join(member->thread, nullptr);
        } else {
            pthread_detach(member->thread);
            all_ended = false;
        }
        member->has_thread = false;
    }
    return all_ended;
}

void Crew::forget_threads() {
    for (Member* member : members_) {
        member->has_thread = false;
        member->ended.store(true, std::memory_order_relaxed);
        member->asleep.store(false, std::memory_order_relaxed);
    }
    if (inside_job) phase_.word.fetch_or(1);
}

void Crew::leave(Member& member) {
    if (inside_job) fail(kPoolEnded, member.worker.index, "");
    member.ended.store(true, std::memory_order_release);
}

// The caller is not pinned: setting its affinity and giving it back costs 4.6 us a job, and leaving
// it pinned would pin every thread that it starts, torch's among them. So it is moved to its CPU
// when it is found elsewhere, which costs 2 ns to see, and every 10 ms at most, since a move takes
// 40 us.
void Crew::bring_caller_home() {
#if defined(__linux__)
    const int home = members_[0]->cpu;
    if (home < 0 || home >= CPU_SETSIZE || sched_getcpu() == home) return;
    constexpr Nanoseconds kBetweenMoves = 10'000'000;
    const Nanoseconds now = now_ns();
    if (now - caller_moved_ < kBetweenMoves) return;
    caller_moved_ = now;
    cpu_set_t before;
    if (sched_getaffinity(0, sizeof before, &before) != 0 || !CPU_ISSET(home, &before)) return;
    pin(pthread_self(), home);
    sched_setaffinity(0, sizeof before, &before);
#endif
}

}  // namespace hybrid
