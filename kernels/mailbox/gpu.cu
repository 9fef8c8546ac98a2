#include "cuda/device.h"
#include "mailbox/mailbox.h"

namespace hybrid {

// For tests and benches: what the router's blocks do.
struct Posting {
    Mailbox mailbox;
    const float* x;         // [tokens][width]
    const int32_t* chosen;  // [tokens][used]
    const float* share;     // [tokens][used]
    int32_t* counter;       // [1], zero before and after
    int32_t tokens;
};

// Each block takes some columns of x, the first one what was chosen.
template <int threads>
__global__ void post(const Posting job) {
    let_next_start();
    wait_for_previous();
    const Mailbox& mailbox = job.mailbox;
    const uint32_t number = next_crossing(mailbox);
    for (int at = static_cast<int>(threadIdx.x); at < job.tokens * mailbox.used && blockIdx.x == 0;
         at += threads)
        post_choice(mailbox, at, job.chosen[at], job.share[at], number);
    post_columns(mailbox, job.tokens, number, [&](int t, int column) {
        return job.x[static_cast<int64_t>(t) * mailbox.width + column];
    });
    // Not last_to_arrive, whose barrier would wait for the thread that fences. This thread met all
    // that have asked for the number.
    if (threadIdx.x != 0) return;
    if (add_acquire_release(job.counter, 1) != static_cast<int>(gridDim.x) - 1) return;
    *job.counter = 0;
    published(mailbox, number);
}

struct Receipt {
    Mailbox mailbox;
    float* h;  // [tokens][width]
    int32_t tokens;
};

// h += y once the CPU has answered. Each block waits for itself, and `threads` of its threads add
// its stretch: a few values each, since a read of y is a trip over PCIe and all are to be one trip.
template <int threads>
__global__ void receive(const Receipt job) {
    let_next_start();  // the next kernel fetches its weights meanwhile
    wait_for_previous();
    const int count = job.tokens * job.mailbox.width;
    const bool reads = static_cast<int>(threadIdx.x) < threads;
    const int at = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
    if (count % 4 != 0 || reinterpret_cast<uintptr_t>(job.h) % 16 != 0) {
        await_answer(job.mailbox);
        const int all = static_cast<int>(gridDim.x) * threads;
        for (int i = at; i < count && reads; i += all) job.h[i] += job.mailbox.y[i];
        return;
    }
    float4* const h = reinterpret_cast<float4*>(job.h) + at;
    const bool inside = reads && at < count / 4;
    const float4 sum = inside ? *h : make_float4(0, 0, 0, 0);
    await_answer(job.mailbox);
    if (!inside) return;
    const float4 y = reinterpret_cast<const float4*>(job.mailbox.y)[at];
    *h = make_float4(sum.x + y.x, sum.y + y.y, sum.z + y.z, sum.w + y.w);
}

}  // namespace hybrid
