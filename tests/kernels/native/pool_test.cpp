// Tests of the pool without Python: `pool_test NAME` runs one case and prints nothing when it
// holds. Built by tests/kernels/test_native_pool.py, plain and with sanitizers.
#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "pool_border.h"

namespace {

using hybrid::Piece;
using hybrid::piece_of;
using hybrid::run_job;
using hybrid::Tail;
using hybrid::Worker;

double seconds_now() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(now).count();
}

// Workers on the first CPUs in turn, and on two nodes in turn.
void start_on(int cpus, int count) {
    std::vector<std::int32_t> numbers, nodes;
    for (int index = 0; index < count; ++index) {
        numbers.push_back(index % cpus);
        nodes.push_back(index % 2);
    }
    CHECK(hybrid_pool_start(numbers.data(), nodes.data(), count) == kPoolOk);
}

void start(int count) {
    start_on(std::max(static_cast<int>(std::thread::hardware_concurrency()), 1), count);
}

int kind(int error) {
    return error & 255;
}
int worker(int error) {
    return error / 256;
}

struct HandOver {
    std::vector<long> left, right;
    long sums[16];
    int rounds;
};

// Every worker writes its own entry, and after the barrier reads all of them.
void hand_over(Worker& worker, void* context) {
    auto& job = *static_cast<HandOver*>(context);
    long sum = 0;
    for (int round = 0; round < job.rounds; ++round) {
        std::vector<long>& line = round % 2 ? job.right : job.left;
        line[worker.index] = round + worker.index;
        worker.barrier();
        for (int other = 0; other < worker.count; ++other) sum += line[other];
    }
    job.sums[worker.index] = sum;
}

void run_hand_over(int threads, int rounds) {
    HandOver job{std::vector<long>(16), std::vector<long>(16), {}, rounds};
    CHECK(run_job(threads, hand_over, &job) == kPoolOk);
    const long expected =
        threads * (rounds * (rounds - 1L) / 2) + rounds * (threads * (threads - 1L) / 2);
    for (int index = 0; index < threads; ++index) CHECK(job.sums[index] == expected);
}

void test_jobs_of_changing_thread_counts() {
    start(4);
    CHECK(hybrid_pool_workers() == 4);
    for (int job = 0; job < 2000; ++job) run_hand_over(1 + job * 7 % 4, 1 + job % 3);
    CHECK(run_job(5, hand_over, nullptr) == kPoolTooFew + 256 * 4);
    CHECK(run_job(-1, hand_over, nullptr) == kPoolTooFew + 256 * 4);
}

void test_barriers_hand_data_over() {
    start(4);
    run_hand_over(2, 5000);
    run_hand_over(4, 1000);
    run_hand_over(1, 1000);
    start(13);  // several groups, the last not full
    for (int threads = 5; threads <= 13; ++threads) run_hand_over(threads, 20);
}

struct Units {
    Tail tail;
    int units;
    std::vector<int> taken;
};

void take_units(Worker& worker, void* context) {
    auto& job = *static_cast<Units*>(context);
    share(worker, job.tail, job.units, [&](int begin, int end) {
        CHECK(begin < end);
        for (int unit = begin; unit < end; ++unit) ++job.taken[unit];
    });
}

void test_every_unit_is_taken_once() {
    start(4);
    for (int units : {0, 1, 2, 3, 7, 8, 9, 64, 132, 1000}) {
        for (int threads = 1; threads <= 4; ++threads) {
            Units job{{}, units, std::vector<int>(units)};
            CHECK(run_job(threads, take_units, &job) == kPoolOk);
            CHECK(std::count(job.taken.begin(), job.taken.end(), 1) == units);
        }
    }
}

void test_pieces_become_smaller() {
    for (int workers : {1, 2, 3, 16, 100}) {
        for (int units : {0, 1, 2, 5, 64, 1000, 4097}) {
            int next = 0, last_size = units;
            for (int ticket = 0; next < units; ++ticket) {
                const Piece piece = piece_of(units, workers, ticket);
                CHECK(piece.begin == next && piece.end > next);
                CHECK(piece.end - piece.begin <= last_size);
                next = piece.end, last_size = piece.end - piece.begin;
            }
            CHECK(units == 0 || last_size == 1);
            const Piece none = piece_of(units, workers, 1 << 20);
            CHECK(next == units && none.begin == none.end);
        }
    }
}

struct Seen {
    Worker workers[8];
};

void look(Worker& worker, void* context) {
    static_cast<Seen*>(context)->workers[worker.index] = worker;
    std::memset(worker.scratch, worker.index, worker.scratch_bytes);
}

void test_workers_know_their_node_and_have_scratch_of_their_own() {
    start(2);
    CHECK(hybrid_pool_reserve(100) == kPoolOk);
    start(5);
    CHECK(hybrid_pool_reserve(5000) == kPoolOk);
    CHECK(hybrid_pool_reserve(50) == kPoolOk);
    for (int threads : {5, 2, 3, 5}) {
        Seen seen{};
        CHECK(run_job(threads, look, &seen) == kPoolOk);
        for (int index = 0; index < threads; ++index) {
            const Worker& worker = seen.workers[index];
            CHECK(worker.index == index && worker.count == threads);
            CHECK(worker.node == index % 2 && worker.node_index == index / 2);
            CHECK(worker.node_count == (threads + 1 - worker.node) / 2);
            CHECK(worker.scratch_bytes == 5000);
            CHECK(reinterpret_cast<std::uintptr_t>(worker.scratch) % 64 == 0);
            CHECK(worker.scratch[4999] == static_cast<std::byte>(index));
        }
    }
    const std::size_t too_much = std::size_t{1} << 60;
    CHECK(kind(hybrid_pool_reserve(too_much)) == kPoolNoMemory);
    run_hand_over(5, 10);
}

void test_two_callers_take_turns() {
    start(3);
    const auto call = [] {
        for (int job = 0; job < 1000; ++job) run_hand_over(1 + job % 3, 2);
    };
    std::thread other(call), third(call);
    call();
    other.join();
    third.join();
}

void test_an_exception_in_any_worker_is_an_error_of_that_job_alone() {
    start(4);
    for (int fault : {1, 2}) {
        for (int failing = 0; failing < 4; ++failing) {
            const int error = hybrid_pool_try_fault(fault, failing, 4, 0);
            CHECK(kind(error) == kPoolThrew && worker(error) == failing);
            CHECK(std::strcmp(hybrid_pool_error_text(), "thrown on purpose") == 0);
            CHECK(hybrid_pool_try_fault(0, 0, 4, 0) == kPoolOk);
            CHECK(std::strcmp(hybrid_pool_error_text(), "") == 0);
            run_hand_over(4, 3);
        }
    }
    start(9);
    for (int failing : {0, 4, 8}) {
        CHECK(kind(hybrid_pool_try_fault(1, failing, 9, 0)) == kPoolThrew);
        run_hand_over(9, 3);
    }
    CHECK(hybrid_pool_try_fault(1, 3, 2, 0) == kPoolOk);
}

void call_again(Worker&, void* context) {
    *static_cast<int*>(context) = hybrid_pool_try_fault(0, 0, 1, 0);
}

void test_a_call_from_within_a_job_is_an_error() {
    int inner = 0;
    CHECK(run_job(1, call_again, &inner) == kPoolOk);
    CHECK(inner == kPoolNested);
}

void test_a_thread_that_ends_breaks_the_pool_until_it_is_started_anew() {
    start(3);
    const int error = hybrid_pool_try_fault(3, 2, 3, 0);
    CHECK(kind(error) == kPoolEnded && worker(error) == 2);
    const double before = seconds_now();
    CHECK(run_job(1, hand_over, nullptr) == error);
    CHECK(hybrid_pool_reserve(100) == error);
    CHECK(seconds_now() - before < 1);
    CHECK(hybrid_pool_try_fault(3, 0, 3, 0) == kPoolBadArgument);
    CHECK(hybrid_pool_stop() == kPoolOk);
    start(3);
    run_hand_over(3, 10);
}

void test_a_stalled_worker_breaks_the_pool_in_time() {
    CHECK(hybrid_pool_set_timeout(0) == kPoolBadArgument);
    CHECK(hybrid_pool_set_timeout(0.2) == kPoolOk);
    for (int stalled : {1, 2, 0}) {
        start(3);
        const double before = seconds_now();
        const int error = hybrid_pool_try_fault(4, stalled, 3, 2);
        CHECK(kind(error) == kPoolStalled && worker(error) == stalled);
        if (stalled != 0) CHECK(seconds_now() - before < 1.9);
        CHECK(hybrid_pool_try_fault(0, 0, 1, 0) == error);
        CHECK(hybrid_pool_stop() == kPoolOk);
    }
    CHECK(hybrid_pool_set_timeout(60) == kPoolOk);
    start(3);
    run_hand_over(3, 10);
    std::this_thread::sleep_for(std::chrono::seconds(1));  // the stalled ones wake and go
}

void test_it_starts_and_stops_again_and_again() {
    for (int round = 0; round < 50; ++round) {
        start(1 + round % 4);
        start(4);
        CHECK(hybrid_pool_reserve(1000) == kPoolOk);
        if (round % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        run_hand_over(4, 3);
        if (round % 2) start(6);
        CHECK(hybrid_pool_workers() == (round % 2 ? 6 : 4));
        CHECK(hybrid_pool_stop() == kPoolOk);
        CHECK(hybrid_pool_workers() == 1);
        CHECK(hybrid_pool_stop() == kPoolOk);
    }
    run_hand_over(1, 3);
    start(2);  // and the process ends with workers that spin
}

// Not by looking every 0.1 s, which they do as well.
void test_workers_wake_from_sleep() {
    start(4);
    const double before = seconds_now();
    for (int round = 0; round < 20; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(15));
        run_hand_over(2 + round % 3, 3);
    }
    CHECK(seconds_now() - before < 20 * 0.015 + 1.2);
}

void test_a_forked_child_has_workers_of_its_own() {
    start(4);
    CHECK(hybrid_pool_reserve(1000) == kPoolOk);
    run_hand_over(4, 10);
    std::atomic<bool> over{false};
    std::thread other([&] {
        while (!over) run_hand_over(3, 2);
    });
    for (int round = 0; round < 20; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            run_hand_over(4, 10);
            CHECK(hybrid_pool_workers() == 4);
            std::exit(0);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        run_hand_over(4, 10);
    }
    over = true;
    other.join();
}

std::uint64_t words_read(const std::vector<std::byte>& buffer, int threads) {
    double seconds = -1;
    std::uint64_t words = 0;
    CHECK(hybrid_pool_read(buffer.data(), buffer.size(), threads, &seconds, &words) == kPoolOk);
    CHECK(seconds > 0 && seconds < 10);
    return words;
}

void test_a_buffer_is_read_whole() {
    start(3);
    for (int threads : {1, 2, 3}) {
        for (std::size_t bytes : {0, 5, 256, 777, 2048, 4099}) {
            std::vector<std::byte> buffer(bytes);
            CHECK(words_read(buffer, threads) == 0);
            for (std::byte& one : buffer) {
                one = std::byte{1};
                CHECK(words_read(buffer, threads) != 0);
                one = std::byte{0};
            }
        }
        words_read(std::vector<std::byte>((std::size_t{8} << 20) + 77), threads);
    }
}

// 100 us of work on one thread.
void work(Worker& worker, void*) {
    volatile unsigned sum = 0;
    for (int half = 0; half < 2; ++half) {
        for (int step = 0; step < 50'000 / worker.count; ++step) sum = sum + step;
        worker.barrier();
    }
}

double jobs_per_second(int threads, double seconds) {
    const double begin = seconds_now();
    int jobs = 0;
    for (; seconds_now() - begin < seconds; ++jobs)
        CHECK(run_job(threads, work, nullptr) == kPoolOk);
    return jobs / (seconds_now() - begin);
}

// Keeps one CPU busy until it is killed.
pid_t burn(int cpu) {
    const pid_t child = fork();
    if (child != 0) return child;
    alarm(20);
#if defined(__linux__)
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    sched_setaffinity(0, sizeof only, &only);
#endif
    for (volatile unsigned turns = 0;;) turns = turns + 1;
}

// All on two CPUs. Two workers beside others should do twice what one thread does there; a
// collapse, in which each wait costs a turn of the others, does a thirtieth. Four workers there do
// less than two (each barrier waits for turns), which choose_cpus never asks for: only a collapse
// counts. Eight tries each, since what else runs must not decide.
void test_a_crowded_machine_is_shared_and_no_more() {
    start_on(2, 4);
    bool no_collapse = false, beside_others = false;
    for (int round = 0; round < 8 && !no_collapse; ++round)
        no_collapse = 10 * jobs_per_second(4, 0.5) > jobs_per_second(2, 0.5);
    CHECK(no_collapse);
    for (int round = 0; round < 8 && !beside_others; ++round) {
        const pid_t others[] = {burn(0), burn(1)};
        beside_others = 3 * jobs_per_second(2, 1) > jobs_per_second(1, 1);
        for (const pid_t other : others) {
            kill(other, SIGKILL);
            waitpid(other, nullptr, 0);
        }
    }
    CHECK(beside_others);
}

struct Case {
    const char* name;
    void (*run)();
};

const Case kCases[] = {
    {"jobs", test_jobs_of_changing_thread_counts},
    {"barriers", test_barriers_hand_data_over},
    {"units", test_every_unit_is_taken_once},
    {"pieces", test_pieces_become_smaller},
    {"workers", test_workers_know_their_node_and_have_scratch_of_their_own},
    {"callers", test_two_callers_take_turns},
    {"exceptions", test_an_exception_in_any_worker_is_an_error_of_that_job_alone},
    {"nested", test_a_call_from_within_a_job_is_an_error},
    {"ended", test_a_thread_that_ends_breaks_the_pool_until_it_is_started_anew},
    {"stalled", test_a_stalled_worker_breaks_the_pool_in_time},
    {"cycles", test_it_starts_and_stops_again_and_again},
    {"asleep", test_workers_wake_from_sleep},
    {"fork", test_a_forked_child_has_workers_of_its_own},
    {"read", test_a_buffer_is_read_whole},
    {"crowded", test_a_crowded_machine_is_shared_and_no_more},
};

}  // namespace

int main(int count, char** arguments) {
    for (const Case& one : kCases) {
        if (count == 1) std::puts(one.name);
        if (count == 2 && std::strcmp(one.name, arguments[1]) == 0) return one.run(), 0;
    }
    return count == 1 ? 0 : 2;
}
