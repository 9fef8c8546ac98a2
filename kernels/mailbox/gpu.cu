#include "cuda/device.h"
#include "mailbox/mailbox.h"

namespace hybrid {

// For tests and benches: what the router's last block does, as a kernel of one block.
struct Posting {
    Mailbox mailbox;
    const float* x;         // [tokens][width]
    const int32_t* chosen;  // [tokens][used]
    const float* share;     // [tokens][used]
    int32_t tokens;
};

// `threads` is only there so that the kernel is a template, as all are.
template <int threads>
__global__ void post(const Posting job) {
    let_next_start();
    wait_for_previous();
    publish(job.mailbox, job.x, job.chosen, job.share, job.tokens);
}

struct Receipt {
    Mailbox mailbox;
    float* h;  // [tokens][width]
    int32_t tokens;
};

// h += y once the CPU has answered. Each block waits for itself and adds its stretch.
template <int threads>
__global__ void receive(const Receipt job) {
    constexpr int kAtOnce = 4;  // loads over PCIe that a thread has on the way
    let_next_start();           // the next kernel fetches its weights meanwhile
    wait_for_previous();
    await_answer(job.mailbox);
    const int count = job.tokens * job.mailbox.width;
    const int all = static_cast<int>(gridDim.x) * threads;
    for (int first = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
         first < count; first += kAtOnce * all) {
        float y[kAtOnce];
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) {
            const int at = first + n * all;
            y[n] = at < count ? load_float_system(job.mailbox.y + at) : 0.0f;
        }
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) {
            const int at = first + n * all;
            if (at < count) job.h[at] += y[n];
        }
    }
}

}  // namespace hybrid
