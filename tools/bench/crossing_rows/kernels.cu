// Kernels that only a bench wants.
#include "cuda/device.h"

namespace hybrid {

struct Nothing {
    int32_t unused;
};

template <int unused>
__global__ void empty(const Nothing) {
    let_next_start();
    wait_for_previous();
}

struct Reading {
    const uint8_t* bytes;
    int64_t count;  // a multiple of 16
    uint32_t* sum;  // written when a sum is zero by chance: no load can be left out
};

// Reads memory once, 16 bytes a thread and turn, several on the way.
template <int threads>
__global__ void read(const Reading job) {
    constexpr int kAtOnce = 8;
    const int64_t all = static_cast<int64_t>(gridDim.x) * threads * 16;
    const int64_t mine = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * 16;
    uint32_t sum = 1;
    for (int64_t at = mine; at < job.count; at += kAtOnce * all) {
#pragma unroll
        for (int n = 0; n < kAtOnce; ++n) {
            if (at + n * all >= job.count) continue;
            const uint4 words = load16(job.bytes + at + n * all);
            sum += words.x ^ words.y ^ words.z ^ words.w;
        }
    }
    if (sum == 0) *job.sum = sum;
}

}  // namespace hybrid
