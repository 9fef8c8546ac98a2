// Small kernels with one habit or one fault each; the tests say which.
#include "cuda/device.h"

namespace hybrid {

struct SampleRecord {
    const float* x;  // [n]
    float* out;
    int* counter;
    int64_t n;
};

// out[0] (+)= sum of x over all blocks: the last block to arrive adds the blocks' sums.
template <int UNROLL>
__global__ void total(const SampleRecord record) {
    wait_for_previous();
    float sum = 0.0f;
    const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
#pragma unroll UNROLL
    for (int64_t at = first; at < record.n; at += threads) sum += record.x[at];
    sum = block_sum(sum);
    if (threadIdx.x == 0) record.out[1 + blockIdx.x] = sum;
    if (!last_to_arrive(record.counter, gridDim.x) || threadIdx.x != 0) return;
    float all = 0.0f;
    for (unsigned block = 0; block < gridDim.x; ++block) all += record.out[1 + block];
    record.out[0] += all;
    let_next_start();
}

// out[t] = max of x, found by another way than block_max's own.
__global__ void largest(const SampleRecord record) {
    float most = -1e30f;
    for (int64_t at = threadIdx.x; at < record.n; at += blockDim.x) most = max(most, record.x[at]);
    record.out[threadIdx.x] = block_max(most);
}

// out[t] = x[n - 1 - t], turned round through dynamic shared memory.
__global__ void reverse(const SampleRecord record) {
    DYNAMIC_SHARED(float, turned);
    if (threadIdx.x < record.n) turned[record.n - 1 - threadIdx.x] = record.x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < record.n) record.out[threadIdx.x] = turned[threadIdx.x];
}

// out: by lane what each kind of shuffle and vote gives.
__global__ void shuffles(const SampleRecord record) {
    const int lane = lane_index();
    float* out = record.out + lane;
    out[0] = shuffle(static_cast<float>(lane), 5);
    out[32] = shuffle_xor(static_cast<float>(lane), 3);
    out[64] = shuffle_down(static_cast<float>(lane), 4);
    out[96] = static_cast<float>(warp_ballot(lane % 2 == 1) & 0xff);
    out[128] = warp_any(lane == 7) && !warp_all(lane == 7) && warp_all(lane < 32) ? 1.0f : 0.0f;
    out[160] = static_cast<float>(shuffle(static_cast<uint64_t>(lane) << 40, 9) >> 40);
}

// A warp that returns at once; the others still meet at the barrier.
__global__ void early_return(const SampleRecord record) {
    if (warp_index() == 1) return;
    __syncthreads();
    const float lanes = warp_sum(1.0f);
    __syncthreads();
    record.out[threadIdx.x] = lanes;
}

// out[i]: halves and bfloats there and back; the numbers come in as bits.
__global__ void floats(const SampleRecord record) {
    for (int64_t at = threadIdx.x; at < record.n; at += blockDim.x) {
        const float value = record.x[at];
        record.out[at] = half_to_float(float_to_half(value));
        record.out[record.n + at] = bfloat_to_float(float_to_bfloat(value));
    }
}

// out[0..2]: dot of four signed bytes, chosen bytes with a copied sign, a load of 16 bytes.
__global__ void bytes(const SampleRecord record) {
    record.out[0] = static_cast<float>(dp4a(0x80017fff, 0x02030405, 1000));
    record.out[1] = static_cast<float>(byte_permute(0x33221180, 0x77665544, 0x8060) >> 8);
    record.out[2] = bits_float(load16(record.x).w);
}

template <int FAULT>
__global__ void faulty(const SampleRecord record) {
    if constexpr (FAULT == 0) {
        if (threadIdx.x < 16)
            warp_sum(1.0f);
        else
            __syncthreads();
    } else if constexpr (FAULT == 1) {
        if (threadIdx.x < 16)
            warp_sum(1.0f);
        else
            warp_sum(2.0f);
    } else if constexpr (FAULT == 2) {
        if (threadIdx.x < 16) return;
        warp_sum(1.0f);
    } else if constexpr (FAULT == 3) {
        if (threadIdx.x == 0)
            __syncthreads();
        else
            __syncthreads();
    } else if constexpr (FAULT == 4) {
        load16(reinterpret_cast<const char*>(record.x) + 4);
    } else if constexpr (FAULT == 5) {
        DYNAMIC_SHARED(float, scratch);
        scratch[threadIdx.x + 1] = 1.0f;
    } else if constexpr (FAULT == 6) {
        volatile char large[300 << 10];
        for (int at = 0; at < (300 << 10); ++at) large[at] = 1;
        record.out[0] = large[0];
    } else if constexpr (FAULT == 7) {
        __shfl_sync(0xffff0000u, 1.0f, 20);
    }
}

// out[0..3]: what shared memory holds before anybody writes it, from block to block.
__global__ void unwritten(const SampleRecord record) {
    __shared__ float fixed[4];
    DYNAMIC_SHARED(float, scratch);
    record.out[2 * blockIdx.x] = fixed[1];
    record.out[2 * blockIdx.x + 1] = scratch[1];
    fixed[1] = scratch[1] = 1.0f;
}

// Neighbours' values, read with the barrier that PATIENT gives.
template <bool PATIENT>
__global__ void neighbours(const SampleRecord record) {
    __shared__ float values[64];
    values[threadIdx.x] = 1.0f;
    if (PATIENT) __syncthreads();
    record.out[threadIdx.x] = values[(threadIdx.x + record.n) % 64];
}

// 20 meeting points.
__global__ void ten_rounds(const SampleRecord record) {
    for (int round = 0; round < 10; ++round) {
        __syncthreads();
        warp_any(threadIdx.x == 0);
    }
    record.out[blockIdx.x] = 1.0f;
}

// Waits until the CPU writes 7.
__global__ void wait_for_cpu(const SampleRecord record) {
    if (threadIdx.x == 0)
        while (load_acquire_system(reinterpret_cast<const uint32_t*>(record.counter)) != 7)
            pause_ns(100);
    __syncthreads();
    record.out[threadIdx.x] = 7.0f;
}

}  // namespace hybrid
