// The mailbox through which a GPU in a captured graph calls the CPU: host memory that both address.
// Read by the CPU's compiler and by NVRTC; the functions at the end are the GPU's side, serve.h is
// the CPU's.
//
//     byte  what       type                       by    meaning
//        0  posted     uint32                     GPU   last crossing whose x, chosen, share stand
//        4  gave_up    uint32                     GPU   1: a wait passed its limit, it went on
//      128  answered   uint32                     CPU   last crossing whose y stands
//      132  abandoned  uint32                     CPU   1: every wait of the GPU ends at once
//      256  x          float32 [tokens][width]    GPU
//           chosen     int32   [tokens][used]     GPU   model-wide expert numbers
//           share      float32 [tokens][used]     GPU
//           y          float32 [tokens][width]    CPU
//
// Each array begins on a multiple of 128 bytes, two cache lines, which processors fetch together:
// nobody's polling takes away a line that the other side writes. The CPU's two words are eight
// bytes that the GPU reads at once, since each read of host memory is a trip over PCIe.
//
// One slot is used in turn. Crossing n, with what makes each step see the one before:
//
//     GPU   writes x, chosen, share; __syncthreads; posted = n      release, system scope
//     CPU   sees posted n (acquire); hands the job to the pool      as pool.h says
//     CPU   workers write y and are done; answered = n              release
//     GPU   one thread sees answered n (acquire, system scope); __syncthreads; all read y
//
// x of n+1 overwrites x of n: the GPU came past answered n, and by then no worker read any more.
// y of n+1 overwrites y of n: the CPU came past posted n+1, which the GPU raised in a kernel after
// the one that read y of n.
//
// Numbers are counted in the GPU's own memory by whoever publishes, never baked into a graph; the
// CPU counts along. They wrap around at 2^32 and are compared as if on a circle.
#pragma once

#ifndef __CUDACC_RTC__
#include <cstdint>
#endif

namespace hybrid {

// Where the parts of the byte map are, the same addresses on both sides: pinned memory has one
// (unified virtual addressing). kernels/mailbox lays them out.
struct Mailbox {
    uint32_t* from_gpu;  // posted, gave_up; null: there is no mailbox
    uint32_t* from_cpu;  // answered, abandoned
    float* x;
    int32_t* chosen;
    float* share;
    float* y;
    uint32_t* state;   // on the GPU: crossings published; 1 once a wait passed the limit
    int64_t limit_ns;  // of one wait of the GPU
    int32_t width;
    int32_t used;  // experts a token uses
};

static_assert(sizeof(Mailbox) == 72, "kernels/native/records.py has the same");

#ifdef DEVICE  // cuda/device.h was included: the GPU's side

// Whether crossing `number` is `seen` or was before it, on the circle of 2^32.
DEVICE bool reached(uint32_t seen, uint32_t number) {
    return static_cast<int32_t>(seen - number) >= 0;
}

template <class T>
DEVICE void copy_by_block(const T* from, T* to, int count) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
        to[i] = from[i];
    }
}

// 16 bytes a thread, where the source allows it (a mailbox's parts do): PCIe carries whole lines,
// and all loads of a thread are on their way before the first is stored.
DEVICE void copy_floats_by_block(const float* from, float* to, int count) {
    constexpr int kAtOnce = 4;
    if (count % 4 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
        return copy_by_block(from, to, count);
    const int fours = count / 4, step = static_cast<int>(blockDim.x);
    for (int first = static_cast<int>(threadIdx.x); first < fours; first += kAtOnce * step) {
        float4 four[kAtOnce];
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n)
            four[n] = reinterpret_cast<const float4*>(from)[min(first + n * step, fours - 1)];
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n)
            if (first + n * step < fours) reinterpret_cast<float4*>(to)[first + n * step] = four[n];
    }
}

// Posts the next crossing: the last thing that one block of a kernel does, all its threads, after
// wait_for_previous(). x, chosen and share are those of the step's tokens, written by this block or
// seen by it; they lie in memory of any kind.
//   x        [tokens][width]
//   chosen   [tokens][used]
//   share    [tokens][used]
DEVICE void publish(const Mailbox& mailbox, const float* x, const int32_t* chosen,
                    const float* share, int tokens) {
    const uint32_t number = threadIdx.x == 0 ? mailbox.state[0] + 1 : 0;
    copy_floats_by_block(x, mailbox.x, tokens * mailbox.width);
    copy_by_block(chosen, mailbox.chosen, tokens * mailbox.used);
    copy_by_block(share, mailbox.share, tokens * mailbox.used);
    // A release is cumulative: what the block wrote before the barrier is seen before `posted`. One
    // fence of system scope waits for all writes on PCIe; one a thread would wait as often.
    __syncthreads();
    if (threadIdx.x != 0) return;
    mailbox.state[0] = number;
    store_release_system(mailbox.from_gpu, number);
}

// Returns when the crossing published last is answered, abandoned, or the limit has passed. All
// threads of the block, after wait_for_previous(); they then may read y.
DEVICE void await_answer(const Mailbox& mailbox) {
    if (threadIdx.x == 0 && mailbox.state[1] == 0) {
        const uint32_t number = mailbox.state[0];
        const uint64_t* const words = reinterpret_cast<const uint64_t*>(mailbox.from_cpu);
        const uint64_t begin = global_timer_ns();
        for (;;) {
            const uint64_t seen = load_acquire_system(words);
            const bool abandoned = (seen >> 32) != 0;
            if (abandoned || reached(static_cast<uint32_t>(seen), number)) break;
            if (static_cast<int64_t>(global_timer_ns() - begin) < mailbox.limit_ns) continue;
            mailbox.state[1] = 1;  // later waits of the graph end at once
            store_release_system(mailbox.from_gpu + 1, 1u);
            break;
        }
    }
    __syncthreads();
}

#endif  // DEVICE

}  // namespace hybrid
