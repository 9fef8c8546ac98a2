// Weights on their way into the second cache before the kernel that reads them: while attention
// waits for itself the memory has nothing else to do.
#pragma once

#include "cuda/device.h"

namespace hybrid {

constexpr int kMostAhead = 4;
constexpr int kMostPlanes = 5;
constexpr int64_t kAheadPiece = 4096;  // bytes that one thread asks for at once

// Whole tensors.
struct Ahead {
    const uint8_t* from[kMostAhead];
    int64_t nbytes[kMostAhead];  // 0: there is no such tensor
};

// Asks for bytes begin .. end, as far as whole 16s go.
DEVICE void ask_for(const uint8_t* begin, const uint8_t* end) {
    const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + 15) / 16 * 16;
    const int64_t whole = static_cast<int64_t>(reinterpret_cast<uintptr_t>(end) - first) / 16 * 16;
    if (whole > 0) prefetch(reinterpret_cast<const void*>(first), static_cast<int>(whole));
}

// The share of a block, of `blocks`. All threads may call it; nobody waits.
DEVICE void call_ahead(const Ahead& ahead, int block, int blocks) {
    const int first = static_cast<int>(threadIdx.x) * blocks + block;
    const int step = static_cast<int>(blockDim.x) * blocks;
#pragma unroll
    for (int i = 0; i < kMostAhead; ++i) {
        const int64_t nbytes = ahead.nbytes[i];
        for (int64_t at = first * kAheadPiece; at < nbytes; at += step * kAheadPiece)
            ask_for(ahead.from[i] + at, ahead.from[i] + min(at + kAheadPiece, nbytes));
    }
}

// Where the planes of a tensor are, for whoever wants some of its rows.
struct Planes {
    const uint8_t* data;  // null: there is no such tensor
    int64_t blocks;       // of all its rows
    int64_t first_row;
    int32_t per_row;  // blocks
    int32_t count;
    int32_t bytes[kMostPlanes];  // of a block in each plane
    int32_t unused;
};

// Part `part` of `parts` of `rows` rows.
DEVICE void call_rows_ahead(const Planes& planes, int64_t row, int64_t rows, int part, int parts) {
    if (planes.data == nullptr) return;
    const uint8_t* plane = planes.data;
    for (int i = 0; i < planes.count; ++i) {
        const int64_t row_bytes = static_cast<int64_t>(planes.per_row) * planes.bytes[i];
        const uint8_t* const begin = plane + (planes.first_row + row) * row_bytes;
        const int64_t first = rows * row_bytes * part / parts;
        const int64_t end = rows * row_bytes * (part + 1) / parts;
        for (int64_t at = first + threadIdx.x * kAheadPiece; at < end;
             at += blockDim.x * kAheadPiece)
            ask_for(begin + at, begin + min(at + kAheadPiece, end));
        plane += planes.blocks * planes.bytes[i];
    }
}

}  // namespace hybrid
