// Planar rows to floats for prompts: a thread decodes 32 weights, its warp writes them side by
// side.
#include "planar/formats.h"

namespace hybrid {

constexpr int kThreads = 128;

// Mirrored by DecodeRecord in gpu.py.
struct DecodeRecord {
    Matrix matrix;
    void* out;       // [rows, columns], aligned to 16 bytes
    int64_t groups;  // of 32 weights, in all rows
};

// How floats become words of the result; kWords per 32 weights.
struct AsF32 {
    static constexpr int kWords = 32;
    DEVICE uint32_t word(const float (&x)[32], int i) { return float_bits(x[i]); }
};

struct AsF16 {
    static constexpr int kWords = 16;
    DEVICE uint32_t word(const float (&x)[32], int i) {
        return float_to_half(x[2 * i]) | static_cast<uint32_t>(float_to_half(x[2 * i + 1])) << 16;
    }
};

struct AsBF16 {
    static constexpr int kWords = 16;
    DEVICE uint32_t word(const float (&x)[32], int i) {
        return float_to_bfloat(x[2 * i]) | static_cast<uint32_t>(float_to_bfloat(x[2 * i + 1]))
                                               << 16;
    }
};

template <class Format, class Result>
__global__ void __launch_bounds__(kThreads) decode_rows(const DecodeRecord record) {
    constexpr int kPieces = Result::kWords / 4;
    // One piece more than a lane has: pieces of neighbours fall into other banks.
    __shared__ uint4 pieces[kThreads / kWarp][kWarp * (kPieces + 1)];
    uint4* own = pieces[warp_index()];
    const int lane = lane_index(), per_row = record.matrix.columns / 32;
    const int64_t warp = static_cast<int64_t>(blockIdx.x) * warps_of_block() + warp_index();
    const int64_t first = warp * kWarp, group = min(first + lane, record.groups - 1);
    const int64_t row = group / per_row;
    let_next_start();
    float weights[32];
    load_weights<Format>(record.matrix, row, static_cast<int>(group - row * per_row), weights);
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
        own[lane * (kPieces + 1) + i] =
            make_uint4(Result::word(weights, 4 * i), Result::word(weights, 4 * i + 1),
                       Result::word(weights, 4 * i + 2), Result::word(weights, 4 * i + 3));
    __syncwarp();
    wait_for_previous();
    uint4* out = static_cast<uint4*>(record.out) + first * kPieces;
    const int64_t left = (record.groups - first) * kPieces;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        const int piece = i * kWarp + lane;
        if (piece < left) out[piece] = own[piece / kPieces * (kPieces + 1) + piece % kPieces];
    }
}

}  // namespace hybrid
