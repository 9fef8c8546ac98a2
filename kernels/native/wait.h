// How a thread waits for a word that another one writes: pause, then yield, then sleep.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#else
#include <condition_variable>
#include <mutex>
#endif

namespace hybrid {

using Nanoseconds = std::int64_t;

inline Nanoseconds now_ns() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");  // `yield` does nothing there; this costs about what x86's pause does
#endif
}

#if defined(__x86_64__)

inline bool has_waitpkg() {
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 5 & 1);
    }();
    return has;
}

// Lets the core rest until the line of `watched` is written, 10 000 clock ticks at most.
template <class Word>
[[gnu::target("waitpkg")]] void rest(const std::atomic<Word>& watched, Word seen) {
    constexpr unsigned kLightSleep = 1;  // C0.1: awake again within 0.1 us
    constexpr std::uint64_t kTicks = 10'000;
    _umonitor(const_cast<std::atomic<Word>*>(&watched));
    if (watched.load(std::memory_order_relaxed) == seen)
        _umwait(kLightSleep, __builtin_ia32_rdtsc() + kTicks);
}

#else

inline bool has_waitpkg() {
    return false;
}
template <class Word>
void rest(const std::atomic<Word>&, Word) {}

#endif

#if defined(__linux__)

// The kernel compares 32 bits, of a longer word those that lie first. They are the low ones.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a futex would compare the high half");

// Sleeps while the word is `value`; comes back after `limit`, or earlier for no reason.
template <class Word>
void sleep_while(const std::atomic<Word>& word, Word value, Nanoseconds limit) {
    const timespec at_most{limit / 1'000'000'000, limit % 1'000'000'000};
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, static_cast<std::uint32_t>(value), &at_most,
            nullptr, 0);
}

template <class Word>
void wake_all(const std::atomic<Word>& word) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

#else

struct Dormitory {
    std::mutex mutex;
    std::condition_variable changed;
};

inline Dormitory& dormitory() {
    static Dormitory* const only = new Dormitory;  // never destroyed: threads may sleep at exit
    return *only;
}

template <class Word>
void sleep_while(const std::atomic<Word>& word, Word value, Nanoseconds limit) {
    std::unique_lock<std::mutex> lock(dormitory().mutex);
    if (word.load() == value) dormitory().changed.wait_for(lock, std::chrono::nanoseconds(limit));
}

template <class Word>
void wake_all(const std::atomic<Word>&) {
    {
        const std::lock_guard<std::mutex> lock(dormitory().mutex);
    }
    dormitory().changed.notify_all();
}

#endif

// A word that threads wait for, and how many of them sleep meanwhile. Whoever changes the word
// calls wake() after it.
template <class Word>
struct alignas(64) Awaited {
    std::atomic<Word> word{0};
    std::atomic<int> sleepers{0};

    // Sequentially consistent, as is every change of the word: either the sleeper sees the change,
    // or whoever made it sees the sleeper.
    void sleep(Word value, Nanoseconds limit) {
        sleepers.fetch_add(1);
        if (word.load() == value) sleep_while(word, value, limit);
        sleepers.fetch_sub(1);
    }
    void wake() {
        if (sleepers.load() != 0) wake_all(word);
    }
};

// One thread's way of waiting.
//
// Pausing answers within 0.1 us. After 50 us of it comes yielding, which costs 0.5 us where nobody
// wants the CPU, and after 5 ms sleep. Where somebody does, yielding is dear: Linux 6.18 lets the
// others have a whole slice of 3 ms first, whereas a thread that is woken runs within 50 us. So a
// yield that took long, or a gap between two looks at the clock, means a crowded CPU: for a while,
// waits there end in sleep after 5 us. ADR 5 has the figures.
class Patience {
  public:
    // Until ready(value of the word), and returns that value. When pausing did not do, calls
    // slow(now) before every further look, which may throw, and in the end sleep(value), which
    // comes back when the word changes and every 0.1 s.
    template <class Word, class Ready, class Slow, class Sleep>
    Word until(const std::atomic<Word>& word, const Ready& ready, const Slow& slow,
               const Sleep& sleep);

  private:
    template <class Word, class Ready>
    Word pause_until(const std::atomic<Word>& word, const Ready& ready);
    template <class Word>
    Nanoseconds yield(const std::atomic<Word>& word, Word seen, Nanoseconds now);

    static constexpr int kPausesPerLook = 16;  // at the clock, which costs as much as a pause
    static constexpr Nanoseconds kPausing = 50'000;
    static constexpr Nanoseconds kPausingWhenCrowded = 5'000;
    static constexpr Nanoseconds kYielding = 5'000'000;
    static constexpr Nanoseconds kGap = 50'000;  // no interrupt takes that long
    static constexpr Nanoseconds kCrowded = 200'000'000;

    Nanoseconds crowded_until_ = 0;
};

template <class Word, class Ready, class Slow, class Sleep>
Word Patience::until(const std::atomic<Word>& word, const Ready& ready, const Slow& slow,
                     const Sleep& sleep) {
    Word seen = pause_until(word, ready);
    if (ready(seen)) return seen;
    const Nanoseconds begin = now_ns();
    for (Nanoseconds now = begin;;) {
        slow(now);
        seen = word.load(std::memory_order_acquire);
        if (ready(seen)) return seen;
        if (now < crowded_until_ || now - begin > kYielding) {
            sleep(seen);
            now = now_ns();
        } else {
            now = yield(word, seen, now);
        }
    }
}

// The last value seen, ready or not.
template <class Word, class Ready>
Word Patience::pause_until(const std::atomic<Word>& word, const Ready& ready) {
    Nanoseconds begin = 0, last = 0;
    for (;;) {
        Word seen{};
        for (int n = 0; n < kPausesPerLook; ++n) {
            seen = word.load(std::memory_order_acquire);
            if (ready(seen)) return seen;
            pause();
        }
        const Nanoseconds now = now_ns();
        if (begin == 0) begin = last = now;
        if (now - last > kGap) crowded_until_ = now + kCrowded;
        if (now - begin >= (now < crowded_until_ ? kPausingWhenCrowded : kPausing)) return seen;
        last = now;
    }
}

// Returns the time after it.
template <class Word>
Nanoseconds Patience::yield(const std::atomic<Word>& word, Word seen, Nanoseconds now) {
    sched_yield();
    const Nanoseconds after = now_ns();
    if (after - now > kGap)
        crowded_until_ = after + kCrowded;
    else if (has_waitpkg())
        rest(word, seen);
    return after;
}

}  // namespace hybrid
