// Blocks as the file has them into planes, while they are uploaded: every bit of a plane is fetched
// from its place in the block. Blocks go through shared memory, so that memory is read once, side
// by side, and written side by side.
#include "cuda/device.h"

namespace hybrid {

constexpr int kMostBlockBytes = 210;  // Q6_K
constexpr int kMostPlanes = 5;

// Mirrored by SplitRecord in gpu.py.
struct SplitRecord {
    const uint8_t* blocks;  // [count, block_bytes]
    uint8_t* planes;        // of `total` blocks
    int64_t count;
    int64_t first;  // these blocks' place among them
    int64_t total;
    int32_t block_bytes;
    int32_t plane_count;
    int32_t widths[kMostPlanes];           // bytes per block of each plane
    uint16_t source[8 * kMostBlockBytes];  // of each bit of all planes: its number in the block
};

DEVICE uint8_t gather(const uint8_t* block, const uint16_t* source) {
    uint32_t byte = 0;
#pragma unroll
    for (int bit = 0; bit < 8; ++bit)
        byte |= (block[source[bit] >> 3] >> (source[bit] & 7) & 1u) << bit;
    return static_cast<uint8_t>(byte);
}

// BLOCKS blocks of weights to a block of threads.
template <int THREADS, int BLOCKS>
__global__ void __launch_bounds__(THREADS) split_blocks(const SplitRecord record) {
    __shared__ uint8_t blocks[BLOCKS * kMostBlockBytes];
    __shared__ uint16_t source[8 * kMostBlockBytes];
    const int thread = static_cast<int>(threadIdx.x), block_bytes = record.block_bytes;
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * BLOCKS;
    const int here = static_cast<int>(min(record.count - begin, static_cast<int64_t>(BLOCKS)));
    for (int i = thread; i < here * block_bytes; i += THREADS)
        blocks[i] = record.blocks[begin * block_bytes + i];
    for (int i = thread; i < 8 * block_bytes; i += THREADS) source[i] = record.source[i];
    __syncthreads();
    int before = 0;
    for (int plane = 0; plane < record.plane_count; ++plane) {
        const int width = record.widths[plane];
        uint8_t* out = record.planes + before * record.total + (record.first + begin) * width;
        for (int i = thread; i < here * width; i += THREADS) {
            const int block = i / width, byte = before + i - block * width;
            out[i] = gather(blocks + block * block_bytes, source + 8 * byte);
        }
        before += width;
    }
}

}  // namespace hybrid
