// The pool's own jobs: the speed of reading RAM, and failures on purpose.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "pool.h"
#include "pool_border.h"
#include "wait.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hybrid {
namespace {

// 16 Emerald Rapids cores read 213 GB/s in 1 stream or 4, and 200 in 8; with 16-byte loads 118 in
// 1, 183 in 8.
constexpr int kStreams = 4;
constexpr std::size_t kLine = 64;

// The xor of all 64-bit words of kStreams streams of `bytes` each, a whole number of lines, that
// follow one another: no load can be left out.
using ReadStreams = std::uint64_t (*)(const std::byte* begin, std::size_t bytes);

std::uint64_t read_streams(const std::byte* begin, std::size_t bytes) {
    using Vector [[gnu::vector_size(16), gnu::aligned(1), gnu::may_alias]] = std::uint64_t;
    Vector sums[kStreams] = {};
    for (std::size_t at = 0; at < bytes; at += kLine) {
        for (int s = 0; s < kStreams; ++s) {
            const auto* line = reinterpret_cast<const Vector*>(begin + s * bytes + at);
            sums[s] ^= (line[0] ^ line[1]) ^ (line[2] ^ line[3]);
        }
    }
    for (int s = 1; s < kStreams; ++s) sums[0] ^= sums[s];
    return sums[0][0] ^ sums[0][1];
}

#if defined(__x86_64__)

[[gnu::target("avx2")]] std::uint64_t read_streams_avx2(const std::byte* begin, std::size_t bytes) {
    __m256i sums[kStreams];
    for (int s = 0; s < kStreams; ++s) sums[s] = _mm256_setzero_si256();
    for (std::size_t at = 0; at < bytes; at += kLine) {
        for (int s = 0; s < kStreams; ++s) {
            const auto* line = reinterpret_cast<const __m256i*>(begin + s * bytes + at);
            const __m256i half = _mm256_loadu_si256(line);
            sums[s] =
                _mm256_xor_si256(sums[s], _mm256_xor_si256(half, _mm256_loadu_si256(line + 1)));
        }
    }
    for (int s = 1; s < kStreams; ++s) sums[0] = _mm256_xor_si256(sums[0], sums[s]);
    std::uint64_t words[4];
    std::memcpy(words, sums, sizeof words);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

[[gnu::target("avx512f")]] std::uint64_t read_streams_avx512(const std::byte* begin,
                                                             std::size_t bytes) {
    __m512i sums[kStreams];
    for (int s = 0; s < kStreams; ++s) sums[s] = _mm512_setzero_si512();
    for (std::size_t at = 0; at < bytes; at += kLine)
        for (int s = 0; s < kStreams; ++s)
            sums[s] = _mm512_xor_si512(sums[s], _mm512_loadu_si512(begin + s * bytes + at));
    for (int s = 1; s < kStreams; ++s) sums[0] = _mm512_xor_si512(sums[0], sums[s]);
    std::uint64_t words[8], sum = 0;
    std::memcpy(words, sums, sizeof words);
    for (const std::uint64_t word : words) sum ^= word;
    return sum;
}

ReadStreams widest() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return read_streams_avx512;
    if (__builtin_cpu_supports("avx2")) return read_streams_avx2;
    return read_streams;
}

#else

ReadStreams widest() {
    return read_streams;
}

#endif

// What one worker of `count` reads in kStreams streams; the last also reads what is left over.
struct Part {
    std::size_t begin, stream_bytes, end;
};

Part part_of(std::size_t bytes, const Worker& worker) {
    const std::size_t stream = bytes / worker.count / kStreams / kLine * kLine;
    const std::size_t begin = stream * kStreams * worker.index;
    const bool last = worker.index == worker.count - 1;
    return {begin, stream, last ? bytes : begin + stream * kStreams};
}

struct Filling {
    std::byte* buffer;
    std::size_t bytes;
};

void fill_part(Worker& worker, void* context) {
    const auto& filling = *static_cast<const Filling*>(context);
    const Part part = part_of(filling.bytes, worker);
    std::memset(filling.buffer + part.begin, 1, part.end - part.begin);
}

struct Reading {
    const std::byte* buffer;
    std::size_t bytes;
    ReadStreams read;
    double* seconds;  // the caller's, written by itself
    std::uint64_t* words;
    std::atomic<std::uint64_t> sum{0};
};

void read_part(Worker& worker, void* context) {
    auto& reading = *static_cast<Reading*>(context);
    const Part part = part_of(reading.bytes, worker);
    worker.barrier();
    const Nanoseconds begin = now_ns();
    std::uint64_t sum = reading.read(reading.buffer + part.begin, part.stream_bytes);
    for (std::size_t at = part.begin + part.stream_bytes * kStreams; at < part.end; ++at)
        sum ^= std::to_integer<std::uint64_t>(reading.buffer[at]);
    reading.sum.fetch_xor(sum, std::memory_order_relaxed);
    worker.barrier();
    if (worker.index != 0) return;
    *reading.seconds = static_cast<double>(now_ns() - begin) * 1e-9;
    *reading.words = reading.sum.load(std::memory_order_relaxed);
}

enum class Fault : std::int32_t { kNone, kThrowBefore, kThrowAfter, kEnd, kStall };

// Not on the caller's stack: a stalled worker reads it when the caller has gone on.
struct Trial {
    std::atomic<Fault> fault{Fault::kNone};
    std::atomic<int> worker{0};
    std::atomic<double> seconds{0};
} trial;

void fail_on_purpose(Worker& worker, void*) {
    const Fault fault = worker.index == trial.worker ? trial.fault.load() : Fault::kNone;
    if (fault == Fault::kThrowBefore) throw std::runtime_error("thrown on purpose");
    if (fault == Fault::kEnd) pthread_exit(nullptr);
    if (fault == Fault::kStall)
        std::this_thread::sleep_for(std::chrono::duration<double>(trial.seconds.load()));
    worker.barrier();
    if (fault == Fault::kThrowAfter) throw std::runtime_error("thrown on purpose");
}

}  // namespace
}  // namespace hybrid

std::int32_t hybrid_pool_fill(void* buffer, std::size_t bytes, std::int32_t threads) {
    return hybrid::run_kept<hybrid::Filling>(threads, hybrid::fill_part,
                                             static_cast<std::byte*>(buffer), bytes);
}

std::int32_t hybrid_pool_read(const void* buffer, std::size_t bytes, std::int32_t threads,
                              double* seconds, std::uint64_t* words) {
    return hybrid::run_kept<hybrid::Reading>(threads, hybrid::read_part,
                                             static_cast<const std::byte*>(buffer), bytes,
                                             hybrid::widest(), seconds, words);
}

std::int32_t hybrid_pool_try_fault(std::int32_t fault, std::int32_t worker, std::int32_t threads,
                                   double seconds) {
    const auto kind = static_cast<hybrid::Fault>(fault);
    const bool ends_caller = kind == hybrid::Fault::kEnd && worker == 0;
    if (fault < 0 || kind > hybrid::Fault::kStall || ends_caller) return kPoolBadArgument;
    if (!(seconds >= 0 && seconds <= 1e6)) return kPoolBadArgument;
    hybrid::trial.fault = kind;
    hybrid::trial.worker = worker;
    hybrid::trial.seconds = seconds;
    return hybrid::run_job(threads, hybrid::fail_on_purpose, nullptr);
}
