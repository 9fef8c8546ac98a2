// CUDA's words for a CPU, so that a kernel runs in tests without a GPU: one block after the other,
// the threads of a block taking turns on one CPU thread (emulator_block.h).
//
// Ends in an error: threads of a warp that wait at different places, a thread that waits for one
// which never comes, a shuffle from a lane that has returned, a write behind the dynamic shared
// memory, a vector load from an address that is no multiple of its size. Not seen: races that
// both orders of the threads survive, waiting for another block, and the speed.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>

struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
using dim3 = uint3;

inline int2 make_int2(int x, int y) {
    return {x, y};
}
inline int4 make_int4(int x, int y, int z, int w) {
    return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

#include "cuda/emulator_launch.h"

namespace hybrid::emulator {

inline uint3 thread_index() {
    return {static_cast<unsigned>(active->current), 0, 0};
}
inline uint3 block_size() {
    return {static_cast<unsigned>(active->count), 1, 1};
}
inline uint3 block_index() {
    return {active->index[0], active->index[1], active->index[2]};
}
inline uint3 grid_size() {
    return {active->grid[0], active->grid[1], active->grid[2]};
}
inline unsigned char* dynamic_shared() {
    return active->dynamic_shared;
}

inline void check_aligned(const void* address, size_t nbytes) {
    if (reinterpret_cast<uintptr_t>(address) % nbytes != 0)
        stop("thread %d takes %zu bytes from %p, no multiple of %zu", active->current, nbytes,
             address, nbytes);
}

// What lane `from` of the calling thread's warp brought to the meeting.
template <class T>
T exchange(const char* operation, unsigned mask, T value, int from, int line, const char* file) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves 8 bytes at most");
    Block& block = *active;
    memcpy(&block.threads[block.current].value, &value, sizeof(T));
    meet(At::warp, operation, mask, line, file);
    const Warp& warp = block.warps[block.current / kLanes];
    if (!(warp.present >> from & 1))
        stop("%s (%s:%d): thread %d reads lane %d, which has returned or is not in the mask",
             operation, file, line, block.current, from);
    memcpy(&value, &warp.met[from], sizeof(T));
    return value;
}

// The lanes of the warp that brought true.
inline unsigned vote(const char* operation, unsigned mask, bool yes, int line, const char* file) {
    Block& block = *active;
    block.threads[block.current].value = yes;
    meet(At::warp, operation, mask, line, file);
    const Warp& warp = block.warps[block.current / kLanes];
    unsigned lanes = 0;
    for (int lane = 0; lane < kLanes; ++lane)
        if (warp.present >> lane & 1) lanes |= static_cast<unsigned>(warp.met[lane]) << lane;
    return lanes;
}

inline int own_lane() {
    return active->current % kLanes;
}

}  // namespace hybrid::emulator

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static thread_local
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(nbytes) alignas(nbytes)
#define threadIdx (::hybrid::emulator::thread_index())
#define blockDim (::hybrid::emulator::block_size())
#define blockIdx (::hybrid::emulator::block_index())
#define gridDim (::hybrid::emulator::grid_size())

// Where a call stands, for the messages and to tell one meeting point from another.
#define CALLED int line = __builtin_LINE(), const char *file = __builtin_FILE()

inline void __syncthreads(CALLED) {
    using namespace hybrid::emulator;
    meet(At::block, "__syncthreads", 0, line, file);
}

inline void __syncwarp(unsigned mask = ~0u, CALLED) {
    using namespace hybrid::emulator;
    meet(At::warp, "__syncwarp", mask, line, file);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, CALLED) {
    return hybrid::emulator::exchange("__shfl_sync", mask, value, lane & 31, line, file);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, CALLED) {
    const int from = (hybrid::emulator::own_lane() ^ lanes) & 31;
    return hybrid::emulator::exchange("__shfl_xor_sync", mask, value, from, line, file);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, int lanes, CALLED) {
    const int own = hybrid::emulator::own_lane();
    const int from = own + lanes < 32 ? own + lanes : own;
    return hybrid::emulator::exchange("__shfl_down_sync", mask, value, from, line, file);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, int lanes, CALLED) {
    const int own = hybrid::emulator::own_lane();
    const int from = own >= lanes ? own - lanes : own;
    return hybrid::emulator::exchange("__shfl_up_sync", mask, value, from, line, file);
}

inline unsigned __ballot_sync(unsigned mask, int yes, CALLED) {
    return hybrid::emulator::vote("__ballot_sync", mask, yes != 0, line, file);
}

inline int __any_sync(unsigned mask, int yes, CALLED) {
    return hybrid::emulator::vote("__any_sync", mask, yes != 0, line, file) != 0;
}

inline int __all_sync(unsigned mask, int yes, CALLED) {
    return hybrid::emulator::vote("__all_sync", mask, yes == 0, line, file) == 0;
}

#include "cuda/emulator_math.h"
