// The GPU's face of device.h; device_plain.h has the same names for the emulator.
// Source of the instructions: PTX ISA 9.0, sections "Data Movement", "Memory Consistency Model" and
// "griddepcontrol".
#pragma once

namespace hybrid {

// ---- starting before the kernel in front has ended

#if __CUDA_ARCH__ >= 900
constexpr bool kOverlaps = true;
#else
constexpr bool kOverlaps = false;
#endif

// Returns when everything that earlier kernels of the stream wrote can be read. Every block of an
// overlapping kernel calls it, also one that has nothing to do: a kernel that ends without waiting
// lets its successor run beside its predecessor.
DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may start once all blocks have called this or returned; it waits by itself for
// what this one writes.
DEVICE void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- numbers

DEVICE float half_to_float(uint16_t bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

// Rounds to nearest, ties to even.
DEVICE uint16_t float_to_half(float value) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

DEVICE uint16_t float_to_bfloat(float value) {
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

DEVICE uint32_t float_bits(float value) {
    return __float_as_uint(value);
}
DEVICE float bits_float(uint32_t bits) {
    return __uint_as_float(bits);
}

// sum + the four products of the signed bytes of a and b.
DEVICE int dp4a(int a, int b, int sum) {
    return __dp4a(a, b, sum);
}

// sum + the two products of the signed halves of a and the two low signed bytes of b.
DEVICE int dp2a(int a, int b, int sum) {
    return __dp2a_lo(a, b, sum);
}

// The same with the two high bytes of b.
DEVICE int dp2a_high(int a, int b, int sum) {
    return __dp2a_hi(a, b, sum);
}

// What lies behind the sum's last bit is dropped.
DEVICE float add_toward_zero(float a, float b) {
    return __fadd_rz(a, b);
}

// 1 / x to the last bit, x and the result not subnormal.
DEVICE float reciprocal(float x) {
    float near;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(near) : "f"(x));
    return fmaf(fmaf(-x, near, 1.0f), near, near);
}

// Four bytes of (high:low), chosen by the four low nibbles of `selector`; its bit 3 spreads the
// chosen byte's sign, which __byte_perm does not.
DEVICE uint32_t byte_permute(uint32_t low, uint32_t high, uint32_t selector) {
    uint32_t chosen;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(chosen) : "r"(low), "r"(high), "r"(selector));
    return chosen;
}

// The number itself, of which the compiler knows nothing: it is kept in a register and not computed
// anew wherever it is added.
DEVICE int unfolded(int number) {
    asm("" : "+r"(number));
    return number;
}

DEVICE float fast_exp(float x) {
    return __expf(x);
}

// ---- loads: weights are read once, so they pass the first cache by. Volatile and not
// ld.global.nc, since the compilers carry other loads behind wait_for_previous(), where nothing
// hides their time.

// 16 bytes of memory that no running kernel writes; `from` is a multiple of 16.
DEVICE uint4 load16(const void* from) {
    uint4 words;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(from));
    return words;
}

DEVICE uint2 load8(const void* from) {
    uint2 words;
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                 : "=r"(words.x), "=r"(words.y)
                 : "l"(from));
    return words;
}

DEVICE uint32_t load4(const void* from) {
    uint32_t word;
    asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(word) : "l"(from));
    return word;
}

DEVICE uint16_t load2(const void* from) {
    uint16_t bits;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(bits) : "l"(from));
    return bits;
}

DEVICE uint8_t load1(const void* from) {
    uint32_t byte;
    asm volatile("ld.global.u8 %0, [%1];" : "=r"(byte) : "l"(from));
    return static_cast<uint8_t>(byte);
}

// The line of 128 bytes around `from` comes into the second cache; nobody waits for it.
DEVICE void prefetch_line(const void* from) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// ---- copies into shared memory that run beside the arithmetic

// 16 bytes; both addresses are multiples of 16.
DEVICE void copy16_async(void* shared, const void* from) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// Closes a group of copies.
DEVICE void close_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for this thread's copies but for the newest `open` groups.
template <int open>
DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}

// ---- order between blocks (device) and with the CPU and other GPUs (system)

DEVICE uint32_t load_acquire_system(const uint32_t* from) {
    uint32_t value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

DEVICE uint64_t load_acquire_system(const uint64_t* from) {
    uint64_t value;
    asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
    return value;
}

DEVICE void store_release_system(uint32_t* to, uint32_t value) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

// The same between threads of a block; the word is shared memory.
DEVICE uint32_t load_acquire_block(const uint32_t* from) {
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(from));
    uint32_t value;
    asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(value) : "r"(at) : "memory");
    return value;
}

DEVICE void store_release_block(uint32_t* to, uint32_t value) {
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("st.release.cta.shared.u32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}

// What this thread wrote, or saw written, before it comes before what it writes after it, for all.
DEVICE void fence_system() {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

// In no order with anything else; seen as a whole.
DEVICE void store_relaxed_system(uint32_t* to, uint32_t value) {
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

// Two, each seen as a whole; `to` is a multiple of 16 bytes.
DEVICE void store_relaxed_system(uint64_t* to, uint64_t first, uint64_t second) {
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second)
                 : "memory");
}

// The value before; orders what this thread wrote before it and reads after it, for all blocks.
DEVICE int add_acquire_release(int* counter, int more) {
    int before;
    asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(counter), "r"(more)
                 : "memory");
    return before;
}

DEVICE int atomic_add(int* counter, int more) {
    return atomicAdd(counter, more);
}
DEVICE float atomic_add(float* sum, float more) {
    return atomicAdd(sum, more);
}

// ---- time

DEVICE uint64_t global_timer_ns() {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

DEVICE void pause_ns(unsigned nanoseconds) {
    __nanosleep(nanoseconds);
}

// ---- the 32 threads of a warp, which all have to call these

template <class T>
DEVICE T shuffle(T value, int lane) {
    return __shfl_sync(kFullWarp, value, lane);
}

template <class T>
DEVICE T shuffle_xor(T value, int lanes) {
    return __shfl_xor_sync(kFullWarp, value, lanes);
}

template <class T>
DEVICE T shuffle_down(T value, int lanes) {
    return __shfl_down_sync(kFullWarp, value, lanes);
}

// The greatest of the warp's values, in one instruction.
DEVICE uint32_t warp_greatest(uint32_t value) {
    return __reduce_max_sync(kFullWarp, value);
}

DEVICE unsigned warp_ballot(bool yes) {
    return __ballot_sync(kFullWarp, yes);
}
DEVICE bool warp_any(bool yes) {
    return __any_sync(kFullWarp, yes) != 0;
}
DEVICE bool warp_all(bool yes) {
    return __all_sync(kFullWarp, yes) != 0;
}

}  // namespace hybrid
