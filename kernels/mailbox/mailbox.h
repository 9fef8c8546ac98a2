// The mailbox through which a GPU in a captured graph calls the CPU: host memory that both address.
// Read by the CPU's compiler and by NVRTC; the functions at the end are the GPU's side, serve.h is
// the CPU's.
//
//     byte  what       type                       by    meaning
//        0  gave_up    uint32                     GPU   1: a wait passed its limit, it went on
//      128  answered   kLines lines of 128 bytes  CPU   uint32: last crossing whose y stands;
//           abandoned  in the same lines          CPU   uint32, 1: every wait of the GPU ends
//           posted     uint32 [width / kStretch]  GPU   last crossing whose columns of x stand
//           x          float32 [tokens][width]    GPU
//           choice     word [tokens][used][2]     GPU   model-wide expert number, share
//           y          float32 [tokens][width]    CPU
//
// Each array begins on a multiple of 128 bytes, two cache lines, which processors fetch together:
// nobody's polling takes away a line that the other side writes. A word is eight bytes that are
// written and read as one: 32 bits of value, above them the number of the crossing. It needs no
// order with anything: whoever waits for a value looks until the number is the right one.
//
// One slot is used in turn. Crossing n, with what makes each step see the one before:
//
//     GPU   a block writes columns of x; __syncthreads; a fence; posted = n       release, system
//           the last block to arrive chooses and writes words n of choice        nothing to order
//     CPU   sees words n of choice, then every posted n (acquire); the pool runs as pool.h says
//     CPU   workers write y and are done; answered = n, line by line             release
//     GPU   a thread of a block sees answered n and tells the others             acquire, system
//           they see that, and read y                              release, acquire, block; weak
//
// So all that is not polled itself is ordered by an acquire that saw a release of its number, both
// of system scope, and is read and written without races by weak accesses. That matters: a warp's
// weak accesses go over PCIe in whole lines, those of system scope one by one. The fences of all
// blocks run at once, and while the last one chooses.
//
// x, choice and posted n+1 overwrite those of n: the GPU came past answered n, which the CPU raised
// when no worker read any more. y n+1 overwrites y n: the CPU came past every posted n+1, which the
// GPU raised in a kernel after the one that read y n.
//
// One trip over PCIe has to end before the next look at the same line begins, whichever block
// looks. So each thread that looks has a line of its own; where blocks are few, several of a block
// take turns, and an answer waits for a part of a trip until somebody looks.
//
// Numbers are counted in the GPU's own memory by whoever publishes, never baked into a graph; the
// CPU counts along. They wrap around at 2^32. Both sides begin with words of no number they will
// wait for (`Mailbox.reset`); a word that has not been written for exactly 2^32 crossings, as those
// of a longer step may, would pass for new.
#pragma once

#ifndef __CUDACC_RTC__
#include <cstdint>
#endif

namespace hybrid {

// Where the parts of the byte map are, the same addresses on both sides: pinned memory has one
// (unified virtual addressing). kernels/mailbox lays them out.
struct Mailbox {
    uint32_t* from_gpu;  // gave_up; null: there is no mailbox
    uint32_t* from_cpu;  // the lines of answered and abandoned
    uint32_t* posted;
    float* x;
    uint64_t* choice;
    float* y;
    uint32_t* state;   // on the GPU: crossings published; 1 once a wait passed the limit
    int64_t limit_ns;  // of one wait of the GPU
    int32_t width;
    int32_t used;  // experts a token uses
};

static_assert(sizeof(Mailbox) == 72, "kernels/native/records.py has the same");

constexpr int kLines = 8;  // threads that look for an answer without queueing for a line
constexpr int kWordsOfLine = 32;
constexpr int kStretch = 256;  // columns of x that a number of posted tells of

#ifdef DEVICE  // cuda/device.h was included: the GPU's side

// Whether crossing `number` is `seen` or was before it, on the circle of 2^32.
DEVICE bool reached(uint32_t seen, uint32_t number) {
    return static_cast<int32_t>(seen - number) >= 0;
}

// The crossing that is being published, after wait_for_previous(). Blocks ask before they arrive at
// the counter whose last one calls `published`.
DEVICE uint32_t next_crossing(const Mailbox& mailbox) {
    return mailbox.state[0] + 1;
}

// Writes value(token, column) of this block's columns of x and tells of them. All threads of all
// blocks call it: many blocks, since what one processor sends over PCIe is a small part of what the
// bus takes.
template <class Value>
DEVICE void post_columns(const Mailbox& mailbox, int tokens, uint32_t number, const Value& value) {
    const int stretches = (mailbox.width + kStretch - 1) / kStretch;
    const int block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    if (block >= stretches) return;
    for (int t = 0; t < tokens; ++t) {
        float* const row = mailbox.x + static_cast<int64_t>(t) * mailbox.width;
        for (int stretch = block; stretch < stretches; stretch += blocks) {
            const int end = min((stretch + 1) * kStretch, mailbox.width);
            for (int c = stretch * kStretch + thread; c < end; c += threads) row[c] = value(t, c);
        }
    }
    __syncthreads();
    if (thread != threads - 1) return;  // the first warps may have other work
    fence_system();
    for (int stretch = block; stretch < stretches; stretch += blocks)
        store_relaxed_system(mailbox.posted + stretch, number);
}

DEVICE uint64_t word_of(uint32_t bits, uint32_t number) {
    return static_cast<uint64_t>(number) << 32 | bits;
}

// One expert of a token; `at` counts through [tokens][used].
DEVICE void post_choice(const Mailbox& mailbox, int at, int32_t expert, float share,
                        uint32_t number) {
    store_relaxed_system(mailbox.choice + 2 * at, word_of(static_cast<uint32_t>(expert), number),
                         word_of(float_bits(share), number));
}

// Once a crossing, when all blocks know its number.
DEVICE void published(const Mailbox& mailbox, uint32_t number) {
    mailbox.state[0] = number;
}

// Threads that a waiting block has beside those that read y: a thread that looks is back no sooner
// than its look, which is a trip over PCIe.
constexpr int kLookers = 4;
constexpr int kLookingThreads = kLookers * kWarp;
constexpr int64_t kBetweenLooks = 320;  // ns, a quarter of a trip

// One of `lookers` of this block looks at its own line until the crossing published last is
// answered, abandoned, or the limit has passed, or another one has seen that.
DEVICE void look_for_answer(const Mailbox& mailbox, int looker, int lookers, uint32_t* over) {
    const uint2 state = *reinterpret_cast<const uint2*>(mailbox.state);
    const int line = (static_cast<int>(blockIdx.x) * lookers + looker) % kLines;
    const uint64_t* const words =
        reinterpret_cast<const uint64_t*>(mailbox.from_cpu + line * kWordsOfLine);
    const uint64_t begin = global_timer_ns();
    while (static_cast<int64_t>(global_timer_ns() - begin) < looker * kBetweenLooks) {
    }
    while (load_acquire_block(over) == 0) {
        const uint64_t seen = load_acquire_system(words);
        const bool abandoned = (seen >> 32) != 0, gave_up = state.y != 0;
        if (abandoned || gave_up || reached(static_cast<uint32_t>(seen), state.x)) break;
        if (static_cast<int64_t>(global_timer_ns() - begin) < mailbox.limit_ns) continue;
        mailbox.state[1] = 1;  // later waits of the graph end at once
        store_release_system(mailbox.from_gpu, 1u);
        break;
    }
    store_release_block(over, 1);
}

// Returns when that is so in all threads but the last kLookingThreads of the block, which look, and
// return later. All threads call it, after wait_for_previous(); those that it is for may read y.
DEVICE void await_answer(const Mailbox& mailbox) {
    __shared__ uint32_t over;
    const int reading = static_cast<int>(blockDim.x) - kLookingThreads;
    const int looker = warp_index() - reading / kWarp;
    const int lookers = max(1, min(kLookers, kLines / static_cast<int>(gridDim.x)));
    if (threadIdx.x == 0) over = 0;
    __syncthreads();
    if (looker < 0) {
        while (load_acquire_block(&over) == 0) {
        }
    } else if (looker < lookers && lane_index() == 0) {
        look_for_answer(mailbox, looker, lookers, &over);
    }
}

#endif  // DEVICE

}  // namespace hybrid
