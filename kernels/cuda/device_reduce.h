// Sums and maxima over a warp and a block, and the question which block is the last; both faces.
#pragma once

namespace hybrid {

DEVICE float bfloat_to_float(uint16_t bits) {
    return bits_float(static_cast<uint32_t>(bits) << 16);
}

// Every lane gets the same sum, added in the same order for every launch.
template <class T>
DEVICE T warp_sum(T value COMMA_CALLED) {
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
        value += shuffle_xor(value, lanes COMMA_CALL);
    return value;
}

template <class T>
DEVICE T warp_max(T value COMMA_CALLED) {
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
        const T other = shuffle_xor(value, lanes COMMA_CALL);
        value = other > value ? other : value;
    }
    return value;
}

// Every thread gets the sum. blockDim.x is a multiple of 32; all threads of the block call it.
template <class T>
DEVICE T block_sum(T value COMMA_CALLED) {
    __shared__ T of_warp[kWarp];
    value = warp_sum(value COMMA_CALL);
    __syncthreads();
    if (lane_index() == 0) of_warp[warp_index()] = value;
    __syncthreads();
    return warp_sum(lane_index() < warps_of_block() ? of_warp[lane_index()] : T(0) COMMA_CALL);
}

template <class T>
DEVICE T block_max(T value COMMA_CALLED) {
    __shared__ T of_warp[kWarp];
    value = warp_max(value COMMA_CALL);
    __syncthreads();
    if (lane_index() == 0) of_warp[warp_index()] = value;
    __syncthreads();
    return warp_max(of_warp[lane_index() < warps_of_block() ? lane_index() : 0] COMMA_CALL);
}

// True in every thread of the last of `blocks` blocks to call it with this counter, which then sees
// what the others wrote before; leaves the counter at zero. All threads of the block call it.
//
// One thread's acquire and release do for all: order is transitive over the block's barriers, and
// each fence beside them would be waited for.
DEVICE bool last_to_arrive(int* counter, int blocks) {
    __shared__ int before;
    __syncthreads();
    if (threadIdx.x == 0) {
        before = add_acquire_release(counter, 1);
        if (before == blocks - 1) *counter = 0;
    }
    __syncthreads();
    return before == blocks - 1;
}

}  // namespace hybrid
