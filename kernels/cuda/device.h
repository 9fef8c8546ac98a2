// What every CUDA kernel here is written with: one header, two faces. NVRTC compiles it for a GPU;
// any C++17 compiler takes emulator.h instead and runs the same kernel on a CPU, for tests.
// Every PTX instruction of the project stands in device_ptx.h or, where it is of sm_90 alone, in
// device_hopper.h.
#pragma once

#ifdef __CUDACC_RTC__
#include "cuda/device_integers.h"
#define DEVICE static __device__ __forceinline__
// A function with COMMA_CALLED behind its arguments and COMMA_CALL behind those of the shuffles in
// it is told by the emulator where it was called.
#define COMMA_CALLED
#define COMMA_CALL
// `name` is the dynamic shared memory that the launch asked for, aligned to 16 bytes.
#define DYNAMIC_SHARED(type, name)                                 \
    extern __shared__ __align__(16) unsigned char dynamic_bytes[]; \
    type* const name = reinterpret_cast<type*>(dynamic_bytes)
#else
#include "cuda/emulator.h"
#define DEVICE static inline
#define COMMA_CALLED , CALLED
#define COMMA_CALL , line, file
#define DYNAMIC_SHARED(type, name) \
    type* const name = reinterpret_cast<type*>(hybrid::emulator::dynamic_shared())
#endif

namespace hybrid {

constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

DEVICE int lane_index() {
    return static_cast<int>(threadIdx.x) & (kWarp - 1);
}
DEVICE int warp_index() {
    return static_cast<int>(threadIdx.x) / kWarp;
}
DEVICE int warps_of_block() {
    return (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
}

}  // namespace hybrid

#ifdef __CUDACC_RTC__
#include "cuda/device_ptx.h"
#else
#include "cuda/device_plain.h"
#endif

#include "cuda/device_reduce.h"
