// What kernels of sm_90 alone are written with: barriers that count bytes, the bulk copy engine,
// wgmma. As device.h it has two faces, PTX and plain C++; addresses in shared memory are numbers of
// 32 bits, as `shared_address` gives them.
#pragma once

#include "cuda/device.h"

#ifdef __CUDACC_RTC__
#define SWIZZLED_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#define SWIZZLED_SHARED(name) unsigned char* const name = hybrid::emulator::dynamic_shared()
#endif

namespace hybrid {

constexpr int kWarpgroup = 128;

// CUtensorMap, as the driver encodes it.
struct alignas(64) TensorMap {
    uint64_t words[16];
};

// ---- products of a warpgroup. Operands in shared memory are boxes of 64 columns of 16 bits in
// the copy engine's swizzle of 128 bytes, at multiples of 1024 bytes: 8 rows are 1024 bytes.

// A descriptor of wgmma. What follows by a known number of bytes costs one addition, and no more
// would do: a product of 64 columns takes less time than a descriptor that is computed anew.
struct Operand {
    uint32_t low, high;

    __device__ __forceinline__ uint64_t at(int nbytes) const {
        return static_cast<uint64_t>(high) << 32 | (low + (nbytes >> 4));
    }
};

// `box_bytes` from one box to the next along the columns, where an operand has several.
DEVICE Operand operand(uint32_t address, int box_bytes) {
    constexpr uint32_t kSwizzle128 = 1u << 30, kEightRows = 1024 >> 4;
    return {(address & 0x3ffff) >> 4 | static_cast<uint32_t>(box_bytes >> 4) << 16,
            kSwizzle128 | kEightRows};
}

// Of 16 columns in a swizzle of 32 bytes: the two halves of rows 4 to 7 of each 8 are exchanged.
DEVICE Operand narrow_operand(uint32_t address) {
    constexpr uint32_t kSwizzle32 = 3u << 30, kEightRows = 256 >> 4;
    return {(address & 0x3ffff) >> 4, kSwizzle32 | kEightRows};
}

}  // namespace hybrid

#ifdef __CUDACC_RTC__
#include "cuda/device_hopper_ptx.h"
#else
#include "cuda/device_hopper_plain.h"
#endif
