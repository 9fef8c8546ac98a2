// The emulator's face of device.h; what each function means stands in device_ptx.h.
#pragma once

#include <sched.h>

namespace hybrid {

constexpr bool kOverlaps = false;
DEVICE void wait_for_previous() {}
DEVICE void let_next_start() {}

DEVICE uint32_t float_bits(float value) {
    return __float_as_uint(value);
}
DEVICE float bits_float(uint32_t bits) {
    return __uint_as_float(bits);
}

DEVICE float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31) return bits_float(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    const float tiny = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -tiny : tiny;
}

DEVICE uint16_t float_to_half(float value) {
    const uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000;
    const float size = fabsf(value);
    if (size != size) return 0x7fff;
    if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00);
    if (size < 0x1p-14f)
        return static_cast<uint16_t>(sign | static_cast<uint32_t>(rintf(size * 0x1p24f)));
    const uint32_t kept = float_bits(size) - (112u << 23);
    return static_cast<uint16_t>(sign | (kept + 0xfff + (kept >> 13 & 1)) >> 13);
}

DEVICE uint16_t float_to_bfloat(float value) {
    const uint32_t bits = float_bits(value);
    if (value != value) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

DEVICE int dp4a(int a, int b, int sum) {
    for (int at = 0; at < 32; at += 8)
        sum += static_cast<int8_t>(a >> at) * static_cast<int8_t>(b >> at);
    return sum;
}

DEVICE int dp2a(int a, int b, int sum) {
    return sum + static_cast<int16_t>(a) * static_cast<int8_t>(b) +
           (a >> 16) * static_cast<int8_t>(b >> 8);
}

DEVICE int dp2a_high(int a, int b, int sum) {
    return dp2a(a, b >> 16, sum);
}

DEVICE int unfolded(int number) {
    return number;
}

DEVICE float add_toward_zero(float a, float b) {
    const double sum = static_cast<double>(a) + b;
    const float nearest = static_cast<float>(sum);
    return fabs(nearest) > fabs(sum) ? nextafterf(nearest, 0.0f) : nearest;
}

DEVICE float reciprocal(float x) {
    return 1.0f / x;
}

DEVICE uint32_t byte_permute(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
    uint32_t chosen = 0;
    for (int at = 0; at < 4; ++at) {
        const uint32_t nibble = selector >> 4 * at & 15;
        uint32_t byte = both >> 8 * (nibble & 7) & 255;
        if (nibble & 8) byte = byte & 128 ? 255 : 0;
        chosen |= byte << 8 * at;
    }
    return chosen;
}

DEVICE float fast_exp(float x) {
    return expf(x);
}

template <class T>
DEVICE T load_aligned(const void* from) {
    emulator::check_aligned(from, sizeof(T));
    T value;
    memcpy(&value, from, sizeof(T));
    return value;
}

DEVICE uint4 load16(const void* from) {
    return load_aligned<uint4>(from);
}
DEVICE uint2 load8(const void* from) {
    return load_aligned<uint2>(from);
}
DEVICE uint32_t load4(const void* from) {
    return load_aligned<uint32_t>(from);
}
DEVICE uint16_t load2(const void* from) {
    return load_aligned<uint16_t>(from);
}
DEVICE uint8_t load1(const void* from) {
    return load_aligned<uint8_t>(from);
}
DEVICE void prefetch_line(const void*) {}

DEVICE void copy16_async(void* shared, const void* from) {
    emulator::check_aligned(shared, 16);
    emulator::check_aligned(from, 16);
    memcpy(shared, from, 16);
}

DEVICE void close_copies() {}

template <int open>
DEVICE void wait_for_copies() {}

// A thread that polls lets the others of its block run, and the program that it waits for.
template <class T>
DEVICE T load_acquire(const T* from) {
    emulator::yield_thread();
    sched_yield();
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

DEVICE uint32_t load_acquire_system(const uint32_t* from) {
    return load_acquire(from);
}
DEVICE uint64_t load_acquire_system(const uint64_t* from) {
    return load_acquire(from);
}

DEVICE void store_release_system(uint32_t* to, uint32_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

DEVICE uint32_t load_acquire_block(const uint32_t* from) {
    return load_acquire(from);
}

DEVICE void store_release_block(uint32_t* to, uint32_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

DEVICE void fence_system() {
    __atomic_thread_fence(__ATOMIC_ACQ_REL);
}

DEVICE void store_relaxed_system(uint32_t* to, uint32_t value) {
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
}

DEVICE void store_relaxed_system(uint64_t* to, uint64_t first, uint64_t second) {
    emulator::check_aligned(to, 2 * sizeof(first));
    __atomic_store_n(to, first, __ATOMIC_RELAXED);
    __atomic_store_n(to + 1, second, __ATOMIC_RELAXED);
}

DEVICE int add_acquire_release(int* counter, int more) {
    return __atomic_fetch_add(counter, more, __ATOMIC_ACQ_REL);
}

template <class T>
DEVICE T atomic_add(T* sum, T more) {
    const T before = *sum;
    *sum += more;
    return before;
}

DEVICE uint64_t global_timer_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000000u + now.tv_nsec;
}

DEVICE void pause_ns(unsigned) {
    sched_yield();
}

template <class T>
DEVICE T shuffle(T value, int lane, CALLED) {
    return __shfl_sync(kFullWarp, value, lane, line, file);
}

template <class T>
DEVICE T shuffle_xor(T value, int lanes, CALLED) {
    return __shfl_xor_sync(kFullWarp, value, lanes, line, file);
}

template <class T>
DEVICE T shuffle_down(T value, int lanes, CALLED) {
    return __shfl_down_sync(kFullWarp, value, lanes, line, file);
}

DEVICE uint32_t warp_greatest(uint32_t value, CALLED) {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
        const uint32_t other = __shfl_xor_sync(kFullWarp, value, lanes, line, file);
        value = other > value ? other : value;
    }
    return value;
}

DEVICE unsigned warp_ballot(bool yes, CALLED) {
    return __ballot_sync(kFullWarp, yes, line, file);
}
DEVICE bool warp_any(bool yes, CALLED) {
    return __any_sync(kFullWarp, yes, line, file) != 0;
}
DEVICE bool warp_all(bool yes, CALLED) {
    return __all_sync(kFullWarp, yes, line, file) != 0;
}

}  // namespace hybrid
